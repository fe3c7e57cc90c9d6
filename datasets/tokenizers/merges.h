/// Byte-pair encoding of one word (Sennrich et al. 2016): of all pairs of neighbours the one whose merge was learned
/// first becomes one token, the leftmost of equals, until no pair is left that was learned.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lexring {

struct Merge {
  std::uint32_t left, right, merged;  ///< ids
};

class MergeTable {
 public:
  /// In the order in which they were learned. Of two with the same pair the later one counts, as in Hugging Face's.
  explicit MergeTable(std::span<const Merge> merges);

  /// Merges `ids` in place.
  void apply(std::vector<std::uint32_t>& ids) const;

 private:
  struct Slot {
    std::uint64_t pair;
    std::uint32_t rank, merged;
  };
  const Slot* find(std::uint32_t left, std::uint32_t right) const;

  std::vector<Slot> slots_;  ///< a power of two, at most half full
  std::uint64_t mask_;
};

}  // namespace lexring
