#include "models/layer.h"

#include <initializer_list>

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

/// From rows to columns of all rows.
Var into_half(Tape& tape, const Var& x, const LinearWeights& layer, const RowShards& shards) {
  Var y = column_parallel_linear(tape, x, layer.weight, layer.bias, shards);
  if (layer.adapter.defined()) add_column_parallel_low_rank(tape, x, y, layer.adapter, shards);
  return y;
}

/// And back: the sum over layers.
struct LastProduct {
  const Var& operand;
  const LinearWeights& layer;
};
Var out_of_half(Tape& tape, std::initializer_list<LastProduct> last, const RowShards& shards) {
  std::vector<RowParallelProduct> products;
  for (const auto& [operand, layer] : last) products.push_back({operand, layer.weight, layer.bias});
  Var y = row_parallel_linear(tape, std::move(products), shards);
  for (const auto& [operand, layer] : last) {
    if (layer.adapter.defined()) add_row_parallel_low_rank(tape, operand, y, layer.adapter, shards);
  }
  return y;
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
  Var qkv = into_half(tape, y, layer.qkv, pass.shards);
  Var gates = forget_logits(tape, pass, y);
  y = Var();
  Var attended = pass.attend(tape, std::exchange(qkv, {}), std::exchange(gates, {}));
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

/// Of the normalised stream y [n, D].
Var ffn_operand(Tape& tape, const LayerPass& pass, Var y) {
  const LayerWeights& layer = *pass.weights;
  Var inner = into_half(tape, y, layer.ffn_in, pass.shards);
  y = Var();
  switch (pass.config->ffn) {
    case Ffn::gelu:
      inner = gelu(tape, inner, Gelu::exact);
      break;
    case Ffn::gelu_tanh:
      inner = gelu(tape, inner, Gelu::tanh);
      break;
    case Ffn::swiglu:
      inner = swiglu(tape, inner);
  }
  return sub_norm(tape, layer.ffn_sub_norm, pass.shards, std::move(inner));
}

Half ffn_half(Tape& tape, const LayerPass& pass, Stream in) {
  const MemoryPurpose purpose(ffn_purpose);
  NormedSum normed = advance(tape, pass.weights->ffn_norm, pass.working, in);
  in = {};
  return {std::move(normed.sum), ffn_operand(tape, pass, std::move(normed.y))};
}

// The last products of the halves: a branch.

Var attention_output(Tape& tape, const LayerPass& pass, const Var& operand) {
  const MemoryPurpose purpose(attention_purpose);
  return out_of_half(tape, {{operand, pass.weights->output}}, pass.shards);
}
Var ffn_output(Tape& tape, const LayerPass& pass, const Var& operand) {
  const MemoryPurpose purpose(ffn_purpose);
  return out_of_half(tape, {{operand, pass.weights->down}}, pass.shards);
}
/// Their sum.
Var output_of_both(Tape& tape, const LayerPass& pass, const Var& attended, const Var& inner) {
  const MemoryPurpose purpose(ffn_purpose);
  return out_of_half(tape, {{attended, pass.weights->output}, {inner, pass.weights->down}}, pass.shards);
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

/// The operand that `make` makes of normalised rows, remembered or made again.
template <class MakeOperand>
Var operand(Tape& tape, const LayerPass& pass, bool again, Var normed, const MakeOperand& make) {
  if (!again) return make(tape, pass, std::move(normed));
  std::vector<Var> inputs(1);
  inputs[0] = std::move(normed);
  return recompute(tape, std::move(inputs),
                   [pass, make](Tape& inner, std::vector<Var> vars) {
                     return StretchOutputs{{}, make(inner, pass, std::move(vars[0]))};
                   })
      .operand;
}

/// Both halves read one stream. Norms are no part of what is made again, so that gradients of the stream add up alike.
Stream parallel_layer(Tape& tape, const LayerPass& pass, Recompute again, Stream in) {
  const bool both = again == Recompute::layer;
  Var attended, inner;
  NormedSum normed;
  {
    const MemoryPurpose purpose(attention_purpose);
    normed = advance(tape, pass.weights->attention_norm, pass.working, in);
    in = {};
    attended =
        operand(tape, pass, both || again == Recompute::attention, std::exchange(normed.y, {}), attention_operand);
  }
  {
    const MemoryPurpose purpose(ffn_purpose);
    inner = operand(tape, pass, both || again == Recompute::ffn,
                    norm(tape, normed.sum, pass.weights->ffn_norm, pass.working), ffn_operand);
  }
  return {std::move(normed.sum), output_of_both(tape, pass, attended, inner)};
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
  if (pass.config->parallel) return parallel_layer(tape, pass, again, std::move(in));
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
