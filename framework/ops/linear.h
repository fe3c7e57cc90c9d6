/// Linear layer.
#pragma once

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// y [N, O] = x [N, I] W^T + b; W [O, I] working, b [O] master or absent; y in the dtype of x.
/// Adjoint: dx = dy W, dW += dy^T x, db += column sums of dy.
/// What is not trained (parameter.h) has no gradient, and what only that would need is not kept.
Var linear(Tape& tape, const Var& x, const Weight& weight, const Vector& bias);

/// What a step keeps of a product's input for the gradient of its weight; empty where that is not trained.
inline Kept keep_for(const Tape& tape, const Weight& weight, const Var& x) {
  return weight.gradient.defined() ? tape.keep(x) : Kept();
}

}  // namespace lexring
