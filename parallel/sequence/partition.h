/// Which rows of a batch each rank of cp = ring x ulysses holds. Pure arithmetic, no communicator.
///
/// Every sequence is cut over the places of the ring, whatever its length (chunks may be empty, places may stay without
/// rows):
///   contiguous  place p holds chunk p of P
///   zigzag      place p holds chunks p and 2P - 1 - p of 2P: equal work under a causal mask, at every hop (zhuzilin;
///               Megatron-LM)
///   striped     place p holds rows p, p + P, p + 2P, ... (Brandon et al. 2023)
/// The rows of a place are then cut evenly over its ulysses ranks; cp rank = place * ulysses + index, as in
/// parallel/mesh.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "framework/attention/rows.h"
#include "framework/base/words.h"
#include "parallel/sequence/row_set.h"

namespace lexring {

/// `automatic` is for those who choose by the pattern (models/sequence/pass.h); a Partition is never automatic.
enum class PartitionKind { automatic, contiguous, zigzag, striped };
constexpr auto words(PartitionKind) {
  return std::to_array<Word<PartitionKind>>({{PartitionKind::automatic, "auto"},
                                             {PartitionKind::zigzag, "zigzag"},
                                             {PartitionKind::contiguous, "contiguous"},
                                             {PartitionKind::striped, "striped"}});
}

/// Rows first, first + stride, ... of the whole table, all of one sequence.
struct Chunk {
  std::int64_t sequence;  ///< index into TokenTable::sequences
  std::int64_t first, count, stride;
  bool operator==(const Chunk&) const = default;
};

class Partition {
 public:
  /// Of the whole batch's table, which is kept.
  Partition(TokenTable whole, PartitionKind kind, int ring, int ulysses = 1);

  const TokenTable& whole() const { return whole_; }
  PartitionKind kind() const { return kind_; }
  int ring() const { return ring_; }
  int ulysses() const { return ulysses_; }
  int ranks() const { return ring_ * ulysses_; }

  /// Rows of a place in its own order: sequence after sequence, positions increasing. Empty chunks are left out.
  const std::vector<Chunk>& place_chunks(int place) const { return places_[static_cast<std::size_t>(place)]; }
  std::int64_t place_rows(int place) const;
  /// [ulysses + 1] Rows of a place, cut over its ranks.
  std::vector<std::int64_t> ulysses_borders(int place) const;
  /// Rows of a rank: a range of its place's.
  std::vector<Chunk> rank_chunks(int rank) const;

 private:
  TokenTable whole_;
  PartitionKind kind_;
  int ring_, ulysses_;
  std::vector<std::vector<Chunk>> places_;
};

std::int64_t row_count(const std::vector<Chunk>& chunks);
/// Indices of the rows in the whole table, in the order of the chunks.
std::vector<std::int64_t> row_indices(const std::vector<Chunk>& chunks);
/// Places [first, last) among the rows of the chunks.
std::vector<Chunk> cut_chunks(const std::vector<Chunk>& chunks, std::int64_t first, std::int64_t last);
/// Where rows of the whole table stand among the rows of the chunks, those of them that are there.
RowSet places_in(const std::vector<Chunk>& chunks, const RowSet& whole_rows);
/// Some of the chunks' rows, by their places among them.
std::vector<Chunk> chunks_at(const std::vector<Chunk>& chunks, const RowSet& places);
/// The table of these rows.
TokenTable tokens_at(const TokenTable& whole, const std::vector<Chunk>& chunks, const RowSet& places);
/// The table of all rows of the chunks.
TokenTable tokens_of(const TokenTable& whole, const std::vector<Chunk>& chunks);

/// The rows of the chunks, by their places, in two: the earlier and the later half of each sequence's (under zigzag,
/// its two chunks).
std::array<RowSet, 2> halves(const std::vector<Chunk>& chunks);

/// The elements of `whole` that stand in the rows; an empty vector stays empty.
template <class T>
std::vector<T> take_rows(const std::vector<T>& whole, const std::vector<std::int64_t>& rows) {
  std::vector<T> taken;
  if (whole.empty()) return taken;
  taken.reserve(rows.size());
  for (const std::int64_t row : rows) taken.push_back(whole[static_cast<std::size_t>(row)]);
  return taken;
}
Visibility take_rows(const Visibility& whole, const std::vector<std::int64_t>& rows);

}  // namespace lexring
