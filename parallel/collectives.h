/// Collectives on the tape. Each is linear over the values of all ranks together; its backward is the adjoint of that
/// map: for all values x and all cotangents dy, different on every rank, the sum over ranks of <y, dy> is the sum over
/// ranks of <x, dx>.
///
/// Every rank of a group calls the same collectives in the same order, in backward too; a rank may hold no rows. Slices
/// are uneven rather than padded. Sums are added in the order of the ranks (bf16: in f32, rounded once). A group of one
/// costs nothing: x itself comes back.
///
/// N rows in all, n of them this rank's, D and W columns.
#pragma once

#include "framework/autograd/tape.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// N rows spread over a group: rank r of R holds rows [N r / R, N (r + 1) / R). The group must outlive it.
class RowShards {
 public:
  RowShards(Communicator& group, std::int64_t rows);

  Communicator& group() const { return *group_; }
  bool alone() const { return group_->size() == 1; }
  std::int64_t rows() const { return borders_.back(); }  ///< N
  std::int64_t first(int rank) const { return borders_[static_cast<std::size_t>(rank)]; }
  std::int64_t count(int rank) const { return borders_[static_cast<std::size_t>(rank) + 1] - first(rank); }
  std::int64_t first() const { return first(group_->rank()); }  ///< this rank's
  std::int64_t count() const { return count(group_->rank()); }  ///< n
  /// Borders in elements of rows of `width`, for a communicator.
  std::vector<std::int64_t> borders(std::int64_t width) const;

 private:
  Communicator* group_;
  std::vector<std::int64_t> borders_;
};

/// From columns to rows, an all-to-all: x [N, w] holds columns [W r / R, W (r + 1) / R) of a matrix [N, W] and y [n, W]
/// rows of it. Adjoint: rows_to_columns.
Var columns_to_rows(Tape& tape, const Var& x, const RowShards& shards, std::int64_t width);
/// The way back: x [n, W], y [N, w]. Adjoint: columns_to_rows.
Var rows_to_columns(Tape& tape, const Var& x, const RowShards& shards);

/// y [N, D] from everybody's x [n, D]. Adjoint: reduce_scatter_rows.
Var gather_rows(Tape& tape, const Var& x, const RowShards& shards);
/// y [n, D], this rank's rows of the sum of everybody's x [N, D], which it takes over as scratch: nobody has kept its
/// value. Adjoint: gather_rows.
Var reduce_scatter_rows(Tape& tape, const Var& x, const RowShards& shards);

// ---- without tape, under way while the caller computes

/// Rows that a collective is bringing. Holds all memory that moves.
class PendingRows {
 public:
  PendingRows() = default;  ///< nothing is on its way
  explicit PendingRows(Tensor rows) : moving_(std::move(rows)), count_(moving_.rows()) {}
  /// Rows [first, first + count) of `moving` when `pending` is done.
  PendingRows(Tensor moving, std::int64_t first, std::int64_t count, Pending pending)
      : moving_(std::move(moving)), first_(first), count_(count), pending_(std::move(pending)) {}

  /// Returns the rows, in memory of their own, when they are there. Once.
  Tensor wait();

 private:
  Tensor moving_;
  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
  Pending pending_;
};

/// [N, D] from everybody's x [n, D].
[[nodiscard]] PendingRows start_gather_rows(const Tensor& x, const RowShards& shards);
/// [n, D], this rank's rows of the sum of everybody's x [N, D]. Takes x over: it is scratch.
[[nodiscard]] PendingRows start_reduce_scatter_rows(Tensor x, const RowShards& shards);

}  // namespace lexring
