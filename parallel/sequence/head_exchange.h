/// All-to-all attention (Jacobs et al. 2023, Ulysses): ranks that share the rows of a place exchange heads for rows, so
/// that each has all rows of some heads, attend, and exchange back. Where ranks outnumber key heads, each has a copy of
/// the key head that its query heads read.
///
/// N rows of the place, n of them this rank's, u ranks, H query heads, K key heads, E head width.
/// Bytes sent by a rank: n (u - 1) / u (2 H + 2 max(K, u)) E b forward, and as many backward; b of the working dtype.
#pragma once

#include "framework/autograd/tape.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// Columns of a matrix.
struct ColumnSpan {
  std::int64_t first, width;
  bool operator==(const ColumnSpan&) const = default;
};

class HeadExchange {
 public:
  /// `borders` [u + 1] cut the place's rows over `group`, which must outlive it. Throws UsageError unless
  /// u ranks can share the heads (parallel/heads.h).
  HeadExchange(Communicator& group, const AttentionForm& whole, std::vector<std::int64_t> borders);

  bool alone() const { return group_->size() == 1; }
  /// Of the heads that this rank attends with.
  const AttentionForm& form() const { return form_; }
  /// The first of them.
  std::int64_t first_head() const { return first_head_; }
  /// [n, (H + 2K) E] -> [N, (H + 2 max(K, u)) E / u]. Adjoint: the way back, where copies of a key head are summed (in
  /// f32, rounded once).
  Var to_heads(Tape& tape, const Var& qkv) const;
  /// [N, H E / u] -> [n, H E]. Adjoint: the way back.
  Var to_rows(Tape& tape, const Var& output) const;

 private:
  using SpansByRank = std::vector<std::vector<ColumnSpan>>;  ///< what each rank gets of a row
  /// All rows of the place, of this rank's columns, from everybody's own rows.
  Tensor exchange_for_heads(Backend& backend, const Tensor& x, const SpansByRank& columns) const;
  /// The way back; `width`: of a whole row.
  Tensor exchange_for_rows(Backend& backend, const Tensor& x, const SpansByRank& columns, std::int64_t width) const;
  std::int64_t border(int rank) const { return borders_[static_cast<std::size_t>(rank)]; }

  Communicator* group_;
  AttentionForm form_;
  std::int64_t first_head_;
  std::vector<std::int64_t> borders_;
  SpansByRank fused_, output_;
  std::int64_t fused_width_, output_width_;
};

}  // namespace lexring
