#include "framework/ops/norm.h"

namespace lexring {

namespace {

void check(const Tensor& x, const Tensor& branch, const Norm& layer) {
  require(x.shape().size() == 2 && layer.weight.value.elements() == x.dim(1),
          "norm: x {} does not fit a weight of {} elements", to_string(x.shape()), layer.weight.value.elements());
  require(layer.bias.value.defined() == (layer.kind == NormKind::layernorm),
          "norm: layernorm has a bias, rmsnorm has none");
  require(!branch.defined() || branch.shape() == x.shape(), "norm: branch {} cannot be added to x {}",
          branch.defined() ? to_string(branch.shape()) : "", to_string(x.shape()));
}

/// What one pass of the kernel writes.
struct Normed {
  Tensor y, mean, rstd;
};

Normed normalise(Backend& backend, const Norm& layer, Dtype working, const Tensor& x, const Tensor& branch,
                 const Tensor& sum) {
  Runtime& runtime = backend.runtime();
  const Dtype master = layer.weight.value.dtype();
  Normed out{Tensor(runtime, x.shape(), working),
             layer.kind == NormKind::layernorm ? Tensor(runtime, {x.dim(0)}, master) : Tensor(),
             Tensor(runtime, {x.dim(0)}, master)};
  backend.norm({.kind = layer.kind,
                .eps = layer.eps,
                .x = x,
                .delta = branch,
                .weight = layer.weight.value,
                .bias = layer.bias.value,
                .sum = sum,
                .y = out.y,
                .mean = out.mean,
                .rstd = out.rstd});
  return out;
}

/// Backward of one norm: what it keeps, and where gradients go.
struct NormStep {
  Backend& backend;
  Norm layer;
  Dtype working;
  Kept kept;  ///< the sum that was normalised
  Kept mean, rstd;
  GradientSlot sum_slot, x_slot, y_slot;
  GradientSlot branch_slot;
  bool moves;  ///< there was a branch

  void operator()() const {
    const Tensor dy = y_slot.take();
    Tensor ds = sum_slot.take();
    if (!dy.defined() && !ds.defined()) return;
    Tensor dbranch;
    if (!dy.defined()) {
      if (moves) backend.cast(ds, dbranch = Tensor(backend.runtime(), ds.shape(), working));
    } else {
      const Tensor s = kept();
      const Tensor dsum = ds;
      if (!ds.defined()) ds = Tensor(backend.runtime(), s.shape(), s.dtype());
      if (moves) dbranch = Tensor(backend.runtime(), s.shape(), working);
      backend.norm_backward({.kind = layer.kind,
                             .dy = dy,
                             .s = s,
                             .weight = layer.weight.value,
                             .mean = mean(),
                             .rstd = rstd(),
                             .dsum = dsum,
                             .ds = ds,
                             .ddelta = dbranch,
                             .dweight = layer.weight.gradient,
                             .dbias = layer.bias.gradient});
    }
    x_slot.accumulate(backend, std::move(ds));
    if (moves) branch_slot.accumulate(backend, std::move(dbranch));
  }
};

NormedSum forward(Tape& tape, const Var& x, const Var& branch, const Norm& layer, Dtype working) {
  check(x.value(), branch.value(), layer);
  Backend& backend = tape.backend();
  const bool moves = branch.defined();
  // Without branch the sum is x itself: same value, same slot, so that the gradient of the residual stream passes
  // through.
  Var sum = moves ? Var(Tensor(tape.runtime(), x.value().shape(), x.value().dtype())) : x;
  Normed normed = normalise(backend, layer, working, x.value(), branch.value(), moves ? sum.value() : Tensor());
  if (!tape.recording()) return {std::move(sum), Var(std::move(normed.y))};
  const Kept kept = tape.keep(sum);
  const Var y(std::move(normed.y), [&backend, layer, working, kept] {
    return normalise(backend, layer, working, kept(), Tensor(), Tensor()).y;
  });
  tape.record(NormStep{.backend = backend,
                       .layer = layer,
                       .working = working,
                       .kept = kept,
                       .mean = tape.keep(normed.mean),
                       .rstd = tape.keep(normed.rstd),
                       .sum_slot = sum.slot(),
                       .x_slot = x.slot(),
                       .y_slot = y.slot(),
                       .branch_slot = branch.slot(),
                       .moves = moves});
  return {std::move(sum), y};
}

}  // namespace

Var norm(Tape& tape, const Var& x, const Norm& layer, Dtype working) {
  return forward(tape, x, Var(), layer, working).y;
}

NormedSum add_norm(Tape& tape, const Var& x, const Var& branch, const Norm& layer, Dtype working) {
  require(branch.defined(), "add_norm: there is nothing to add; use norm");
  return forward(tape, x, branch, layer, working);
}

}  // namespace lexring
