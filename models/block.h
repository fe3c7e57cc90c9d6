/// One transformer block over the residual stream, with the residual addition of a branch fused into the norm of the next.
///
/// N tokens, D width, H query heads, K key heads, E head width, F feed-forward width.
#pragma once

#include <functional>

#include "framework/autograd/tape.h"
#include "models/weights.h"

namespace lexring {

/// Between blocks: the stream is x + delta, where delta is the last branch, not added yet (absent before the first block).
struct Stream {
  Var x;      ///< [N, D] residual dtype
  Var delta;  ///< [N, D] working dtype
};

/// [N, (H + 2K) E] fused projections -> [N, H E] attended values.
using Attend = std::function<Var(Tape&, const Var& qkv)>;

/// x += attention(norm(x)); x += ffn(norm(x)).
Stream block(Tape& tape, const LayerWeights& layer, Dtype working, const Attend& attend, Stream in);

/// norm(x + delta), the input of the output projection.
Var final_norm(Tape& tape, const Norm& layer, Dtype working, const Stream& in);

}  // namespace lexring
