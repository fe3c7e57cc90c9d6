/// Sum of table lookups, and of a constant: where a residual stream begins.
#pragma once

#include <vector>

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

struct Lookup {
  Tensor index;  ///< [N] i32, each in [0, V): the caller checks values
  Vector table;  ///< [V, D] master
};

/// x [N, D] of `residual` dtype: the sum over lookups of table[index[n]], plus `constant` [N, D] of any floating dtype
/// if defined. Adjoint: table gradient[index[n]] += dx[n].
Var embedding(Tape& tape, const std::vector<Lookup>& lookups, const Tensor& constant, Dtype residual);

}  // namespace lexring
