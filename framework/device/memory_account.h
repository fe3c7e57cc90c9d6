/// What a runtime's tensors hold, by purpose, now and at the peak.
#pragma once

#include <cstddef>
#include <vector>

#include "framework/device/runtime.h"

namespace lexring {

/// Not thread-safe.
class MemoryAccount {
 public:
  using Place = std::size_t;  ///< of a purpose

  Place take(const char* purpose, std::size_t bytes);
  void give_back(Place place, std::size_t bytes);
  void reset_peak();

  const MemoryUse& use() const { return use_; }
  std::vector<MemoryShare> shares_at_peak() const;  ///< the largest first

  /// Throws the Error for a tensor of `bytes` that found no memory: who holds how much, and what to do.
  [[noreturn]] void no_memory(std::size_t bytes) const;

 private:
  MemoryUse use_;
  std::vector<MemoryShare> shares_, at_peak_;
};

}  // namespace lexring
