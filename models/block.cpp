#include "models/block.h"

#include "framework/ops/gelu.h"
#include "framework/ops/linear.h"
#include "framework/ops/swiglu.h"

namespace lexring {

namespace {

/// norm(x + delta) and the stream it leaves behind. Temporaries are not named where their memory should go at once.
NormedSum advance(Tape& tape, const Norm& layer, Dtype working, const Stream& in) {
  if (in.delta.defined()) return add_norm(tape, in.x, in.delta, layer, working);
  return {in.x, norm(tape, in.x, layer, working)};
}

Var apply(Tape& tape, const LinearWeights& layer, const Var& x) { return linear(tape, x, layer.weight, layer.bias); }

Var sub_norm(Tape& tape, const Norm& layer, Var x) {
  if (!layer.weight.value.defined()) return x;
  return norm(tape, x, layer, x.value().dtype());
}

}  // namespace

Stream block(Tape& tape, const LayerWeights& layer, Dtype working, const Attend& attend, Stream in) {
  NormedSum normed = advance(tape, layer.attention_norm, working, in);
  in = {};
  Var qkv = apply(tape, layer.qkv, normed.y);
  normed.y = Var();
  Var attended = attend(tape, qkv);
  qkv = Var();
  Var delta = apply(tape, layer.output, sub_norm(tape, layer.attention_sub_norm, std::move(attended)));

  normed = add_norm(tape, normed.sum, delta, layer.ffn_norm, working);
  delta = Var();
  Var inner = apply(tape, layer.ffn_in, normed.y);
  normed.y = Var();
  const bool gated = inner.value().dim(1) != layer.down.weight.compute.dim(1);
  inner = gated ? swiglu(tape, inner) : gelu(tape, inner);
  return {std::move(normed.sum), apply(tape, layer.down, sub_norm(tape, layer.ffn_sub_norm, std::move(inner)))};
}

Var final_norm(Tape& tape, const Norm& layer, Dtype working, const Stream& in) { return advance(tape, layer, working, in).y; }

}  // namespace lexring
