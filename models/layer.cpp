#include "models/layer.h"

#include "framework/ops/gelu.h"
#include "framework/ops/swiglu.h"
#include "parallel/tensor/linear.h"

namespace lexring {

namespace {

/// norm(x + branch) and the stream it leaves behind. Temporaries are not named where their memory should go at once.
NormedSum advance(Tape& tape, const Norm& layer, Dtype working, const Stream& in) {
  if (in.branch.defined()) return add_norm(tape, in.x, in.branch, layer, working);
  return {in.x, norm(tape, in.x, layer, working)};
}

/// Normalises rows of which every rank has some columns.
Var sub_norm(Tape& tape, const Norm& layer, const RowShards& shards, Var x) {
  if (!layer.weight.value.defined()) return x;
  x = columns_to_rows(tape, x, shards, layer.weight.value.elements());
  return rows_to_columns(tape, norm(tape, x, layer, x.value().dtype()), shards);
}

}  // namespace

Stream attention_half(Tape& tape, const LayerWeights& layer, Dtype working, const Attend& attend,
                      const RowShards& shards, Stream in) {
  const MemoryPurpose purpose("attention half: stream, norm, projections");
  NormedSum normed = advance(tape, layer.attention_norm, working, in);
  in = {};
  Var qkv = column_parallel_linear(tape, normed.y, layer.qkv.weight, layer.qkv.bias, shards);
  normed.y = Var();
  Var attended = attend(tape, qkv);
  qkv = Var();
  attended = sub_norm(tape, layer.attention_sub_norm, shards, std::move(attended));
  return {std::move(normed.sum), row_parallel_linear(tape, attended, layer.output.weight, layer.output.bias, shards)};
}

Stream feed_forward_half(Tape& tape, const LayerWeights& layer, Dtype working, const RowShards& shards, Stream in) {
  const MemoryPurpose purpose("feed-forward half: stream, norm, projections");
  NormedSum normed = advance(tape, layer.ffn_norm, working, in);
  in = {};
  Var inner = column_parallel_linear(tape, normed.y, layer.ffn_in.weight, layer.ffn_in.bias, shards);
  normed.y = Var();
  const bool gated = inner.value().dim(1) != layer.down.weight.compute.dim(1);
  inner = gated ? swiglu(tape, inner) : gelu(tape, inner);
  inner = sub_norm(tape, layer.ffn_sub_norm, shards, std::move(inner));
  return {std::move(normed.sum), row_parallel_linear(tape, inner, layer.down.weight, layer.down.bias, shards)};
}

Stream whole_layer(Tape& tape, const LayerWeights& layer, Dtype working, const Attend& attend, const RowShards& shards,
                   Stream in) {
  return feed_forward_half(tape, layer, working, shards,
                           attention_half(tape, layer, working, attend, shards, std::move(in)));
}

Var final_norm(Tape& tape, const Norm& layer, Dtype working, const Stream& in) {
  return advance(tape, layer, working, in).y;
}

}  // namespace lexring
