/// Linear layer.
#pragma once

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// y [N, O] = x [N, I] W^T + b; W [O, I] working, b [O] master or absent; y in the dtype of x.
/// Adjoint: dx = dy W, dW += dy^T x, db += column sums of dy.
Var linear(Tape& tape, const Var& x, const Weight& weight, const Vector& bias);

}  // namespace lexring
