#include "framework/ops/norm.h"

namespace lexring {

namespace {

void check(const Tensor& x, const Tensor& delta, const Norm& layer) {
  require(x.shape().size() == 2 && layer.weight.value.elements() == x.dim(1), "norm: x {} does not fit a weight of {} elements",
          to_string(x.shape()), layer.weight.value.elements());
  require(layer.bias.value.defined() == (layer.kind == NormKind::layernorm), "norm: layernorm has a bias, rmsnorm has none");
  require(!delta.defined() || delta.shape() == x.shape(), "norm: delta {} cannot be added to x {}", delta.defined() ? to_string(delta.shape()) : "",
          to_string(x.shape()));
}

NormedSum forward(Tape& tape, const Var& x, const Var& delta, const Norm& layer, Dtype working) {
  check(x.value(), delta.value(), layer);
  Runtime& runtime = tape.runtime();
  const std::int64_t rows = x.value().dim(0);
  const Dtype master = layer.weight.value.dtype();
  const bool moves = delta.defined();
  // Without delta the sum is x itself: same value, same slot, so that the gradient of the residual stream passes through.
  Var sum = moves ? Var(Tensor(runtime, x.value().shape(), x.value().dtype())) : x;
  Var y(Tensor(runtime, x.value().shape(), working));
  const Tensor mean = layer.kind == NormKind::layernorm ? Tensor(runtime, {rows}, master) : Tensor();
  const Tensor rstd(runtime, {rows}, master);
  tape.backend().norm({.kind = layer.kind,
                       .eps = layer.eps,
                       .x = x.value(),
                       .delta = delta.value(),
                       .weight = layer.weight.value,
                       .bias = layer.bias.value,
                       .sum = moves ? sum.value() : Tensor(),
                       .y = y.value(),
                       .mean = mean,
                       .rstd = rstd});
  tape.record([&backend = tape.backend(), layer, working, moves, s = sum.value(), mean, rstd, sum_slot = sum.slot(), x_slot = x.slot(),
               delta_slot = delta.slot(), y_slot = y.slot()] {
    const Tensor dy = y_slot.take();
    Tensor ds = sum_slot.take();
    if (!dy.defined()) {
      if (!ds.defined()) return;
      if (moves) {
        Tensor ddelta(backend.runtime(), s.shape(), working);
        backend.cast(ds, ddelta);
        delta_slot.accumulate(backend, std::move(ddelta));
      }
      x_slot.accumulate(backend, std::move(ds));
      return;
    }
    const Tensor dsum = ds;
    if (!ds.defined()) ds = Tensor(backend.runtime(), s.shape(), s.dtype());
    Tensor ddelta = moves ? Tensor(backend.runtime(), s.shape(), working) : Tensor();
    backend.norm_backward({.kind = layer.kind,
                           .dy = dy,
                           .s = s,
                           .weight = layer.weight.value,
                           .mean = mean,
                           .rstd = rstd,
                           .dsum = dsum,
                           .ds = ds,
                           .ddelta = ddelta,
                           .dweight = layer.weight.gradient,
                           .dbias = layer.bias.gradient});
    x_slot.accumulate(backend, std::move(ds));
    if (moves) delta_slot.accumulate(backend, std::move(ddelta));
  });
  return {std::move(sum), std::move(y)};
}

}  // namespace

Var norm(Tape& tape, const Var& x, const Norm& layer, Dtype working) { return forward(tape, x, Var(), layer, working).y; }

NormedSum add_norm(Tape& tape, const Var& x, const Var& delta, const Norm& layer, Dtype working) {
  require(delta.defined(), "add_norm: there is nothing to add; use norm");
  return forward(tape, x, delta, layer, working);
}

}  // namespace lexring
