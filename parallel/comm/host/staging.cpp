#include "parallel/comm/host/staging.h"

#include <algorithm>

namespace lexring {

StagingPool::Memory StagingPool::take(std::size_t size) {
  const std::scoped_lock lock(mutex_);
  // The smallest that is large enough; else the largest gives way to a larger one.
  std::sort(free_.begin(), free_.end(), [](const Memory& a, const Memory& b) { return a.size < b.size; });
  const auto fits = std::find_if(free_.begin(), free_.end(), [&](const Memory& memory) { return memory.size >= size; });
  if (fits == free_.end()) {
    if (!free_.empty()) free_.pop_back();
    return {std::make_unique_for_overwrite<std::byte[]>(size), size};
  }
  Memory memory = std::move(*fits);
  free_.erase(fits);
  return memory;
}

void StagingPool::give_back(Memory memory) {
  const std::scoped_lock lock(mutex_);
  if (memory.size > 0) free_.push_back(std::move(memory));
}

}  // namespace lexring
