/// One transformer layer over the residual stream, with the residual addition of a branch fused into the norm of the
/// next.
///
/// N tokens, D width, H query heads, K key heads, E head width, F feed-forward width. Under tensor parallelism a rank
/// holds n of the N rows between layers of weights, and inside them, of all rows, its share of heads and of F.
#pragma once

#include <functional>

#include "framework/autograd/tape.h"
#include "models/config.h"
#include "models/recompute.h"
#include "models/weights.h"
#include "parallel/collectives.h"

namespace lexring {

/// Between layers: the stream is x + branch, where branch is what the last attention or feed-forward half computed, not
/// added yet (absent before the first layer).
struct Stream {
  Var x;       ///< [n, D] residual dtype
  Var branch;  ///< [n, D] working dtype
};

/// [N, (H + 2K) E] fused projections and, of layers with a forget gate, its logits [N, H] -> [N, H E] attended values.
using Attend = std::function<Var(Tape&, Var qkv, const Var& gates)>;

/// A layer in one pass.
struct LayerPass {
  const ModelConfig* config;
  const LayerWeights* weights;
  Dtype working;
  Attend attend;
  RowShards shards;
};

/// x += attention(norm(x)); x += ffn(norm(x)); with model.parallel x += attention(norm(x)) + ffn(other norm(x)). The
/// same bits whatever is made again.
Stream layer(Tape& tape, const LayerPass& pass, Recompute again, Stream in);

/// norm(x + branch), the input of the output projection.
Var final_norm(Tape& tape, const Norm& layer, Dtype working, const Stream& in);

}  // namespace lexring
