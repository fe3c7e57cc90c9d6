/// Pinned host memory through which copies reach a device, so that the host goes on while they are under way.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>

struct CUevent_st;
struct CUstream_st;

namespace lexring {

/// A ring of slots; many small copies share one. Thread safe. The device of `stream` must be the calling thread's.
class StagingRing {
 public:
  /// Makes its memory when it is first used.
  explicit StagingRing(CUstream_st* stream) : stream_(stream) {}
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;
  /// The stream has nothing left to do.
  ~StagingRing();

  /// Copies in the order of the stream; returns when `from` may be changed. Waits only for a slot whose last copy is
  /// still under way.
  void copy(std::byte* to_device, const std::byte* from, std::size_t bytes);

  static constexpr std::size_t slots = 8, slot_bytes = 4 << 20;

 private:
  void reserve();
  void enter_next_slot();

  CUstream_st* stream_;
  std::mutex mutex_;
  std::byte* memory_ = nullptr;
  std::array<CUevent_st*, slots> copied_{};  ///< the last copy out of each slot
  std::size_t slot_ = 0, used_ = 0;          ///< bytes of the slot
};

}  // namespace lexring
