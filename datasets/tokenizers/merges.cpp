#include "datasets/tokenizers/merges.h"

#include <bit>
#include <limits>
#include <queue>

namespace lexring {
namespace {

constexpr std::uint64_t no_pair = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

std::uint64_t pair_of(std::uint32_t left, std::uint32_t right) { return std::uint64_t{left} << 32 | right; }
std::uint64_t hash(std::uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15U;
  return pair ^ pair >> 29;
}

/// A token in the word, with its neighbours.
struct Symbol {
  std::uint32_t id, before, after;
};

/// A pair that may be merged, as long as both are what they were.
struct Candidate {
  std::uint32_t rank, at, merged;
  std::uint32_t left, right;
  bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
};

}  // namespace

MergeTable::MergeTable(std::span<const Merge> merges)
    : slots_(std::bit_ceil(2 * merges.size() + 2), Slot{no_pair, 0, 0}), mask_(slots_.size() - 1) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    std::uint64_t place = hash(pair) & mask_;
    while (slots_[place].pair != no_pair && slots_[place].pair != pair) place = (place + 1) & mask_;
    slots_[place] = {pair, static_cast<std::uint32_t>(rank), merges[rank].merged};
  }
}

const MergeTable::Slot* MergeTable::find(std::uint32_t left, std::uint32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  for (std::uint64_t place = hash(pair) & mask_; slots_[place].pair != no_pair; place = (place + 1) & mask_) {
    if (slots_[place].pair == pair) return &slots_[place];
  }
  return nullptr;
}

void MergeTable::apply(std::vector<std::uint32_t>& ids) const {
  const auto count = static_cast<std::uint32_t>(ids.size());
  std::vector<Symbol> symbols(count);
  for (std::uint32_t i = 0; i < count; ++i) symbols[i] = {ids[i], i > 0 ? i - 1 : none, i + 1 < count ? i + 1 : none};
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::uint32_t at) {
    if (at == none || symbols[at].after == none) return;
    const std::uint32_t left = symbols[at].id, right = symbols[symbols[at].after].id;
    if (const Slot* slot = find(left, right)) queue.push({slot->rank, at, slot->merged, left, right});
  };
  for (std::uint32_t i = 0; i < count; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.at];
    if (left.id != best.left || left.after == none || symbols[left.after].id != best.right) continue;
    Symbol& right = symbols[left.after];
    left.id = best.merged;
    right.id = none;  // gone
    left.after = right.after;
    if (left.after != none) symbols[left.after].before = best.at;
    consider(left.before);
    consider(best.at);
  }
  ids.clear();
  for (std::uint32_t at = 0; at != none && count > 0; at = symbols[at].after) ids.push_back(symbols[at].id);
}

}  // namespace lexring
