/// Linear layers whose weight is cut over a tensor-parallel group, between activations that are cut by rows (Shoeybi et
/// al. 2019; Korthikanti et al. 2022: sequence parallelism). A column-parallel layer goes from row shards to columns of
/// all rows, a row-parallel one back; what lies between (attention of some heads, an activation) needs nobody else.
///
/// N rows, n of them this rank's, I inputs, O outputs, R ranks. Bytes are what a rank sends, B per element. Gathered
/// activations are not kept for backward but gathered again. A group of one sends nothing.
#pragma once

#include <vector>

#include "framework/nn/parameter.h"
#include "framework/ops/low_rank.h"
#include "parallel/collectives.h"

namespace lexring {

/// y [N, O / R] = X W^T + b, where X [N, I] are all ranks' rows x [n, I], W [O / R, I] and b are this rank's rows of
/// the weight and bias. Forward sends n I B (R - 1): X, which is multiplied row by row as it comes. Adjoint: dX = dY W
/// summed over ranks, dW += dY^T X, db += column sums of dY; as much again for X, while dX is computed, and (N - n) I B
/// for dX, while dW is.
Var column_parallel_linear(Tape& tape, const Var& x, const Weight& weight, const Vector& bias, const RowShards& shards);

/// What a row-parallel layer multiplies.
struct RowParallelProduct {
  Var x;          ///< [N, I / R]
  Weight weight;  ///< [O, I / R], these columns of the weight
  Vector bias;    ///< [O] held by all, or absent
};

/// y [n, O] = this rank's rows of the sum over ranks, and over the products, of x W^T, plus every b once. Forward sends
/// (N - n) O B, in up to four slices of outputs, each while the next is computed. Adjoint: with dY [N, O] from
/// everybody's rows, which sends n O B (R - 1), dx = dY W, dW += dY^T x; db += column sums of dY on the group's first
/// rank: a part of the gradient, as ReplicatedGradients wants it. The sum of several products travels once each way.
Var row_parallel_linear(Tape& tape, std::vector<RowParallelProduct> products, const RowShards& shards);

/// Adds a low-rank addition (framework/ops/low_rank.h) to y of a column-parallel layer of x: A whole on every rank, B
/// cut as the weight's rows are. What it sends is t [n, R] in place of x.
void add_column_parallel_low_rank(Tape& tape, const Var& x, const Var& y, const LowRank& layer,
                                  const RowShards& shards);
/// The same for a row-parallel layer: A cut as the weight's columns are, B whole on every rank. What it sends is t [N,
/// R], which is summed over ranks.
void add_row_parallel_low_rank(Tape& tape, const Var& x, const Var& y, const LowRank& layer, const RowShards& shards);

}  // namespace lexring
