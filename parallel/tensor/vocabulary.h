/// A vocabulary cut over a tensor-parallel group: rank r of R holds rows [V r / R, V (r + 1) / R) of the embedding and
/// of the output projection, perhaps none. A group of one runs framework/ops/embedding and linear_cross_entropy.
///
/// N rows, n of them this rank's, D width.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/nn/parameter.h"
#include "framework/ops/embedding.h"
#include "parallel/collectives.h"

namespace lexring {

/// Token ids [N] as indices into this rank's slice; -1 where another holds the token.
std::vector<std::int32_t> slice_ids(const std::vector<std::int32_t>& ids, std::int64_t vocab,
                                    const Communicator& group);
/// Targets [N] counted from this rank's slice (Backend::logits_statistics): its width or more where another holds it,
/// -1 where not counted.
std::vector<std::int32_t> slice_targets(const std::vector<std::int32_t>& targets, std::int64_t vocab,
                                        const Communicator& group);

/// What is added to token embeddings; absent parts are undefined.
struct PositionTerms {
  Lookup lookup;    ///< index [n] of this rank's rows, table [rows, D] held by all
  Tensor constant;  ///< [n, D] any floating dtype
};

/// x [n, D] of `residual` dtype: this rank's rows of table[ids] over the whole vocabulary, plus positions. `tokens`:
/// slice_ids of all N rows, and this rank's slice of the table. Sends (N - n) D elements. Adjoint: with dX [N, D] from
/// everybody's rows, table gradient[id] += dX.
Var vocabulary_embedding(Tape& tape, const Lookup& tokens, const PositionTerms& positions, Dtype residual,
                         const RowShards& shards);

/// nll [N] master on every rank: logsumexp(H W^T) - (H W^T)[target], 0 where not counted, with H [N, D] the rows h [n,
/// D] of all ranks, W this rank's slice of the weight, targets [N] i32 from slice_targets. In chunks of rows, whose
/// statistics (two numbers per row and rank) travel while the next chunk's logits are computed; [N, V] logits never
/// exist.
///
/// When recording, gradients of scale * sum(nll) are made in the forward pass, as in
/// framework/ops/linear_cross_entropy, which says what `soft_cap` is.
Tensor vocabulary_cross_entropy(Tape& tape, const Var& h, const Weight& weight, const Tensor& targets,
                                std::int64_t vocab, double scale, const RowShards& shards, double soft_cap = 0);

/// logits [M, V] master on every rank; h [M, D] are the same rows on every rank.
Tensor vocabulary_logits(Backend& backend, const Tensor& h, const Weight& weight, std::int64_t vocab,
                         Communicator& group, double soft_cap = 0);

}  // namespace lexring
