/// Low-rank additions to linear layers (Hu et al. 2021, "LoRA").
#pragma once

#include <vector>

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// An addition to the columns [first, first + O) of a layer's outputs.
struct LowRankPart {
  Weight b;            ///< [O, r]
  std::int64_t first;  ///< column of y
};

/// What one layer has: W x becomes W x + scale B (A x), where several parameters share a product by their rows.
struct LowRank {
  Weight a;                        ///< [R, I]: of all parts, row after row; undefined: no addition
  std::vector<LowRankPart> parts;  ///< their ranks add up to R
  double scale = 1;                ///< alpha / rank

  bool defined() const { return a.compute.defined(); }
};

/// t [N, R] = scale x A^T, x [N, I]. Adjoint: dx += scale dt A, dA += scale dt^T x.
Var low_rank_input(Tape& tape, const Var& x, const LowRank& layer);

/// y [N, O] += t B^T, part by part, in place: y is what a linear layer has just made, and nobody has kept its value.
/// Adjoint: dt = dy B, dB += dy^T t, and dy goes on to who made y.
void add_low_rank(Tape& tape, const Var& y, const Var& t, const LowRank& layer);

}  // namespace lexring
