/// Host memory for parts of reductions on their way, used again by later calls.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace lexring {

/// Thread safe. Keeps what was ever needed at one time.
class StagingPool {
 public:
  struct Memory {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
  };

  /// At least `size` bytes, uninitialised, aligned for any number.
  Memory take(std::size_t size);
  void give_back(Memory memory);

 private:
  std::mutex mutex_;
  std::vector<Memory> free_;
};

}  // namespace lexring
