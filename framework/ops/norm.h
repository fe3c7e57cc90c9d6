/// Layer norm (Ba et al. 2016) and RMS norm (Zhang and Sennrich 2019), with the residual addition before it in the same
/// pass.
#pragma once

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// What a norm is and what it reads.
struct Norm {
  NormKind kind = NormKind::layernorm;
  double eps = 1e-5;
  Vector weight;  ///< [D] master
  Vector bias;    ///< [D] master; absent with rmsnorm
};

/// y = norm(x), in `working` dtype; x [N, D] residual or working dtype.
Var norm(Tape& tape, const Var& x, const Norm& layer, Dtype working);

struct NormedSum {
  Var sum;  ///< x + branch, dtype of x
  Var y;    ///< norm(sum), working dtype
};

/// The residual stream moves on: sum = x + branch, y = norm(sum). branch [N, D] working dtype.
NormedSum add_norm(Tape& tape, const Var& x, const Var& branch, const Norm& layer, Dtype working);

}  // namespace lexring
