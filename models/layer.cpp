#include "models/layer.h"

#include "framework/ops/gelu.h"
#include "framework/ops/linear.h"
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

/// A half of a layer but for its last product.
struct Half {
  Var sum;
  Var operand;  ///< of the product
};

/// [N, H], of the normalised stream y [n, D]; absent without a gate.
Var forget_logits(Tape& tape, const LayerPass& pass, const Var& y) {
  const LinearWeights& gate = pass.weights->forget;
  if (!gate.weight.compute.defined()) return {};
  return rows_to_columns(tape, linear(tape, y, gate.weight, gate.bias), pass.shards);
}

/// Of the normalised stream y [n, D].
Var attention_operand(Tape& tape, const LayerPass& pass, Var y) {
  const LayerWeights& layer = *pass.weights;
  Var qkv = column_parallel_linear(tape, y, layer.qkv.weight, layer.qkv.bias, pass.shards);
  Var gates = forget_logits(tape, pass, y);
  y = Var();
  Var attended = pass.attend(tape, qkv, std::exchange(gates, {}));
  qkv = Var();
  return sub_norm(tape, layer.attention_sub_norm, pass.shards, std::move(attended));
}

constexpr const char* attention_purpose = "attention half: stream, norm, projections";
constexpr const char* ffn_purpose = "feed-forward half: stream, norm, projections";

Half attention_half(Tape& tape, const LayerPass& pass, Stream in) {
  const MemoryPurpose purpose(attention_purpose);
  NormedSum normed = advance(tape, pass.weights->attention_norm, pass.working, in);
  in = {};
  return {std::move(normed.sum), attention_operand(tape, pass, std::move(normed.y))};
}

/// Its product: the branch.
Var attention_output(Tape& tape, const LayerPass& pass, const Var& operand) {
  const MemoryPurpose purpose(attention_purpose);
  return row_parallel_linear(tape, operand, pass.weights->output.weight, pass.weights->output.bias, pass.shards);
}

Half ffn_half(Tape& tape, const LayerPass& pass, Stream in) {
  const MemoryPurpose purpose(ffn_purpose);
  const LayerWeights& layer = *pass.weights;
  NormedSum normed = advance(tape, layer.ffn_norm, pass.working, in);
  in = {};
  Var inner = column_parallel_linear(tape, normed.y, layer.ffn_in.weight, layer.ffn_in.bias, pass.shards);
  normed.y = Var();
  const bool gated = inner.value().dim(1) != layer.down.weight.compute.dim(1);
  inner = gated ? swiglu(tape, inner) : gelu(tape, inner);
  return {std::move(normed.sum), sub_norm(tape, layer.ffn_sub_norm, pass.shards, std::move(inner))};
}

Var ffn_output(Tape& tape, const LayerPass& pass, const Var& operand) {
  const MemoryPurpose purpose(ffn_purpose);
  return row_parallel_linear(tape, operand, pass.weights->down.weight, pass.weights->down.bias, pass.shards);
}

/// In a list with braces both would live on as copies.
std::vector<Var> both(Var first, Var second) {
  std::vector<Var> vars(2);
  vars[0] = std::move(first);
  vars[1] = std::move(second);
  return vars;
}

StretchOutputs outputs_of(Half half) { return {{std::move(half.sum)}, std::move(half.operand)}; }

/// From the stream to a half's last product, remembered or made again.
template <class MakeHalf>
Half half(Tape& tape, const LayerPass& pass, bool again, Stream in, const MakeHalf& make) {
  if (!again) return make(tape, pass, std::move(in));
  StretchOutputs out =
      recompute(tape, both(std::move(in.x), std::move(in.branch)), [pass, make](Tape& inner, std::vector<Var> vars) {
        return outputs_of(make(inner, pass, {std::move(vars[0]), std::move(vars[1])}));
      });
  return {std::move(out.kept[0]), std::move(out.operand)};
}

/// Between the first norm, which keeps the stream alone, and the last product.
Half middle(Tape& tape, const LayerPass& pass, Stream in) {
  NormedSum normed = advance(tape, pass.weights->attention_norm, pass.working, in);
  in = {};
  StretchOutputs out =
      recompute(tape, both(std::move(normed.sum), std::move(normed.y)), [pass](Tape& inner, std::vector<Var> vars) {
        Var branch = attention_output(inner, pass, attention_operand(inner, pass, std::move(vars[1])));
        return outputs_of(ffn_half(inner, pass, {std::move(vars[0]), std::move(branch)}));
      });
  return {std::move(out.kept[0]), std::move(out.operand)};
}

}  // namespace

Stream layer(Tape& tape, const LayerPass& pass, Recompute again, Stream in) {
  Half last;
  if (again == Recompute::layer) {
    last = middle(tape, pass, std::move(in));
  } else {
    Half first = half(tape, pass, again == Recompute::attention, std::move(in), attention_half);
    Var branch = attention_output(tape, pass, std::exchange(first.operand, {}));
    last = half(tape, pass, again == Recompute::ffn, {std::move(first.sum), std::move(branch)}, ffn_half);
  }
  return {std::move(last.sum), ffn_output(tape, pass, std::exchange(last.operand, {}))};
}

Var final_norm(Tape& tape, const Norm& layer, Dtype working, const Stream& in) {
  return advance(tape, layer, working, in).y;
}

}  // namespace lexring
