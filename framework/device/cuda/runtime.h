/// A CUDA device's memory, and the one stream that all its work goes through.
///
/// A block that a tensor gave back is reused at once: whoever gets it writes to it later in the same stream, after
/// everything that was started before. So all work on a tensor goes through `stream()`. Another stream (communication)
/// first waits for an event of this one, and this one waits for an event of that one before the tensor is released.
///
/// Nothing waits for the device but `synchronise`, `copy_to_host`, memory that goes back to the system, and a copy from
/// the host that finds `staging_bytes` of copies still under way.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "framework/device/runtime.h"

struct CUstream_st;

namespace lexring {

/// The devices that this process sees; where it sees none, `why_none` gets CUDA's words.
int visible_cuda_devices(std::string* why_none = nullptr);
/// Bytes of a device's memory that no process holds. The device is the calling thread's from then on.
std::size_t free_device_memory(int index);

/// Thread safety as of Runtime. Every call that touches the device makes it the calling thread's own; a thread that
/// starts kernels by itself calls `use_device` first. Several processes may share a device.
class CudaRuntime final : public Runtime {
 public:
  /// Throws UsageError where the device does not exist or is older than compute capability 8.0.
  explicit CudaRuntime(int index);
  ~CudaRuntime() override;

  Device device() const override;
  /// Aligned to 512 bytes.
  std::shared_ptr<std::byte> allocate(std::size_t bytes) override;
  /// Returns when `from` may be changed.
  void copy_from_host(std::byte* to, const std::byte* from, std::size_t bytes) override;
  /// Waits for everything before it, and for the bytes.
  void copy_to_host(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override;
  void synchronise() override;
  MemoryUse memory() const override;
  std::vector<MemoryShare> shares_at_peak() const override;
  void reset_peak() override;
  void trim() override;

  CUstream_st* stream() const;
  void use_device() const;
  int multiprocessors() const;

  static constexpr std::size_t staging_bytes = 32 << 20;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace lexring
