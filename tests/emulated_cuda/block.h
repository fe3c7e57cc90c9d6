/// What gpu.cpp lets the emulation's other parts know of the block that runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace lexring::cuda::emulated {

/// What works beside a block's threads (hopper.cpp has the copy engine and the tensor cores).
class BesideThreads {
 public:
  virtual ~BesideThreads() = default;
  /// Does one thing that is due. Asked when no thread can go on; false where nothing is due.
  virtual bool go_on() = 0;
  /// A thread wrote to shared memory by itself.
  virtual void written(const void* address, std::size_t bytes) = 0;
  /// The block has ended. Throws Error where something was left to do.
  virtual void ended() = 0;
};

std::span<std::byte> shared_memory_of_block();
unsigned thread_of_block();
unsigned threads_of_block();
/// Chance, the same in every run: true every so many times.
bool one_in(unsigned times);
/// Empty until somebody fills it; destroyed with the block.
std::unique_ptr<BesideThreads>& beside_threads();

/// Returns when the number is another one than it is now; somebody else changes it.
void wait_for_change(const std::uint64_t& number);
/// Must follow a change for which threads may wait.
void somebody_may_go_on();

}  // namespace lexring::cuda::emulated
