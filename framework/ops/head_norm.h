/// RMS norm (Zhang and Sennrich 2019) of every head's query and key, before they are turned (Dehghani et al. 2023,
/// "Scaling Vision Transformers to 22 Billion Parameters", 2.1; with one weight for all heads as in Qwen3).
#pragma once

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// Weights of the norms, [E] master each; undefined: there are none.
struct HeadNorms {
  double eps = 1e-5;
  Vector query, key;
};

/// [N, (H + 2K) E] fused projections of H query and K key heads, E wide: y = x / sqrt(mean(x^2) + eps) * weight for
/// each head of queries and of keys; values as they are. In the dtype of x. Adjoint: as of framework/ops/norm.h, head
/// by head.
Var head_norms(Tape& tape, const Var& qkv, const HeadNorms& norms, const AttentionForm& form);

}  // namespace lexring
