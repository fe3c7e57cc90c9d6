#include "framework/device/block_pool.h"

#include <algorithm>
#include <iterator>

namespace lexring {
namespace {

std::size_t rounded(std::size_t bytes, std::size_t unit) {
  return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
}

}  // namespace

std::size_t BlockPool::size_of(std::size_t bytes) const { return rounded(bytes, granule_); }

std::byte* BlockPool::take(std::size_t bytes) {
  const std::size_t wanted = size_of(bytes);
  auto fitting = free_.lower_bound({wanted, nullptr});
  if (fitting == free_.end()) {
    if (!grow(wanted)) return nullptr;
    fitting = free_.lower_bound({wanted, nullptr});
  }
  const auto block = blocks_.find(fitting->second);
  free_.erase(fitting);
  if (block->second.bytes > wanted) {
    insert_free(blocks_.emplace(block->first + wanted, Block{block->second.bytes - wanted, false, false}).first);
    block->second.bytes = wanted;
  }
  block->second.used = true;
  used_ += wanted;
  most_used_ = std::max(most_used_, used_);
  return block->first;
}

void BlockPool::give_back(std::byte* address) {
  auto block = blocks_.find(address);
  block->second.used = false;
  used_ -= block->second.bytes;
  if (const auto next = std::next(block); next != blocks_.end() && !next->second.used && !next->second.begins) {
    erase_free(next);
    block->second.bytes += next->second.bytes;
    blocks_.erase(next);
  }
  if (!block->second.begins && !std::prev(block)->second.used) {
    const auto before = std::prev(block);
    erase_free(before);
    before->second.bytes += block->second.bytes;
    blocks_.erase(block);
    block = before;
  }
  insert_free(block);
}

bool BlockPool::grow(std::size_t bytes) {
  const std::size_t size = rounded(bytes, segment_);
  const std::size_t most = std::max(most_used_, used_ + bytes),
                    enough = most + most / 4;  // blocks do not fit without gaps
  while (reserved_ + size > enough && release_one()) continue;
  std::byte* memory = source_.take(size);
  if (memory == nullptr) {
    trim();
    memory = source_.take(size);
  }
  if (memory == nullptr) return false;
  reserved_ += size;
  insert_free(blocks_.emplace(memory, Block{size, false, true}).first);
  return true;
}

/// The largest segment that nobody uses.
bool BlockPool::release_one() {
  for (auto entry = free_.rbegin(); entry != free_.rend(); ++entry) {
    const auto block = blocks_.find(entry->second);
    const auto next = std::next(block);
    if (!block->second.begins || (next != blocks_.end() && !next->second.begins)) continue;
    const auto [memory, size] = std::pair(block->first, block->second.bytes);
    erase_free(block);
    blocks_.erase(block);
    reserved_ -= size;
    source_.give_back(memory, size);
    return true;
  }
  return false;
}

void BlockPool::trim() {
  while (release_one()) continue;
}

}  // namespace lexring
