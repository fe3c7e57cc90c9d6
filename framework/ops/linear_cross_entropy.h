/// Output projection and cross-entropy as one op that works in chunks of tokens: the [N, V] logits never exist.
#pragma once

#include "framework/autograd/tape.h"
#include "framework/nn/parameter.h"

namespace lexring {

/// Rows per chunk. A CPU's logits stay in its caches: about 4 MiB, at least 128 rows so that products stay efficient.
/// On a GPU a chunk is long enough that the products outweigh reading and writing dW once per chunk: 512 MiB, at least
/// 1,024 rows.
std::int64_t loss_chunk_rows(std::int64_t vocab, Dtype master, DeviceType device);

/// nll [N] master: logsumexp(y) - y[target], 0 where target < 0, with y = h W^T, or cap * tanh(h W^T / cap) where a
/// `soft_cap` is above 0. h [N, D] and W [V, D] working, targets [N] i32 below V.
///
/// When recording, gradients of scale * sum(nll) are made in the forward pass, while a chunk's logits are at hand: dW
/// is accumulated into the weight's gradient at once, dh reaches h's slot in backward. So `scale` must be final (1 /
/// number of targets of the whole step).
Tensor linear_cross_entropy(Tape& tape, const Var& h, const Weight& weight, const Tensor& targets, double scale,
                            double soft_cap = 0);

}  // namespace lexring
