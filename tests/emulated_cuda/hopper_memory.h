/// Shared memory as Hopper's asynchronous proxy sees it, transaction barriers and the copy engine (emulated_hopper.h).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "tests/emulated_cuda/emulated_hopper.h"

namespace lexring::cuda::hopper::emulated {

/// What is published is what the asynchronous proxy may read.
class ProxyView {
 public:
  explicit ProxyView(std::span<std::byte> shared);

  /// By the thread that runs.
  void written(const void* address, std::size_t bytes);
  void fence();

  /// 16 bytes for the asynchronous proxy, by address (shared_address); throws Error where they are not published.
  const std::uint16_t* read(std::uint32_t address) const;
  void write(std::uint32_t address, const void* bytes);

  std::size_t place(std::uint32_t address, std::size_t bytes) const;

 private:
  std::span<std::byte> shared_;
  std::vector<std::byte> published_;
  std::vector<bool> open_;                              ///< by word: written and not fenced
  std::map<unsigned, std::vector<std::size_t>> words_;  ///< such words, by thread
};

class Barriers {
 public:
  void init(const TransactionBarrier& barrier, unsigned arrivals);
  void fence();  ///< what the thread that runs initialised, others see
  void arrive(const TransactionBarrier& barrier, unsigned expected_bytes);
  void wait(const TransactionBarrier& barrier, unsigned parity);
  void completed(const TransactionBarrier& barrier, unsigned bytes);
  void ended() const;

 private:
  struct State {
    unsigned arrivals, arrived = 0;
    std::int64_t bytes = 0;  ///< expected and not here; below 0 where they came before they were expected
    std::uint64_t phase = 0;
    unsigned initialised_by;
    bool published = false;
  };
  State& of(const TransactionBarrier& barrier);
  static void advance(State& state);

  std::map<const TransactionBarrier*, State> states_;
};

class CopyEngine {
 public:
  CopyEngine(ProxyView& memory, Barriers& barriers) : memory_(memory), barriers_(barriers) {}
  void start(void* to, const TensorMap& map, const TransactionBarrier& barrier, int channel, int row, int head);
  bool go_on();
  void ended() const;

 private:
  struct Copy {
    std::uint32_t to;
    TensorMapShape map;
    const TransactionBarrier* barrier;
    std::int64_t at[3];
  };
  void carry_out(const Copy& copy);

  ProxyView& memory_;
  Barriers& barriers_;
  std::vector<Copy> copies_;
};

/// 16-byte chunks permuted within 1,024 bytes: by address, whatever the tile.
constexpr std::uint32_t swizzled_address(std::uint32_t address) { return address ^ (address >> 7 & 7U) << 4; }

}  // namespace lexring::cuda::hopper::emulated
