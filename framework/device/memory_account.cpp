#include "framework/device/memory_account.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "framework/base/error.h"

namespace lexring {
namespace {

std::vector<MemoryShare> largest_first(std::vector<MemoryShare> shares) {
  std::stable_sort(shares.begin(), shares.end(),
                   [](const MemoryShare& a, const MemoryShare& b) { return a.bytes > b.bytes; });
  return shares;
}

}  // namespace

MemoryAccount::Place MemoryAccount::take(const char* purpose, std::size_t bytes) {
  Place place = 0;
  while (place < shares_.size() && std::strcmp(shares_[place].purpose, purpose) != 0) ++place;
  if (place == shares_.size()) shares_.push_back({purpose, 0});
  shares_[place].bytes += bytes;
  use_.current += bytes;
  if (use_.current > use_.peak) reset_peak();
  return place;
}

void MemoryAccount::give_back(Place place, std::size_t bytes) {
  shares_[place].bytes -= bytes;
  use_.current -= bytes;
}

void MemoryAccount::reset_peak() {
  use_.peak = use_.current;
  at_peak_ = shares_;
}

std::vector<MemoryShare> MemoryAccount::shares_at_peak() const { return largest_first(at_peak_); }

void MemoryAccount::no_memory(std::size_t bytes) const {
  std::string holders;
  for (const MemoryShare& share : largest_first(shares_)) {
    if (share.bytes >> 20 > 0)
      holders += fmt::format("{}{} {} MiB", holders.empty() ? "" : ", ", share.purpose, share.bytes >> 20);
  }
  fail(
      "no memory for a tensor of {} MiB; tensors hold {} MiB ({}). Lower train.micro_batch or train.length, or use "
      "train.recompute = layer",
      bytes >> 20, use_.current >> 20, holders);
}

}  // namespace lexring
