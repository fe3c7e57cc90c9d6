#include "framework/ops/linear.h"

namespace lexring {

namespace {

/// The gradient dy W of x, added where it belongs by the product itself.
void backward_input(Backend& backend, const Tensor& dy, const Weight& weight, const Shape& shape,
                    const GradientSlot& slot) {
  if (slot.get().defined()) return backend.linear_backward_input(dy, weight.compute, slot.get(), Write::accumulate);
  Tensor dx(backend.runtime(), shape, dy.dtype());
  backend.linear_backward_input(dy, weight.compute, dx);
  slot.accumulate(backend, std::move(dx));
}

}  // namespace

Var linear(Tape& tape, const Var& x, const Weight& weight, const Vector& bias) {
  const Tensor& w = weight.compute;
  const Tensor& input = x.value();
  require(input.shape().size() == 2 && w.shape().size() == 2 && input.dim(1) == w.dim(1) && input.dtype() == w.dtype(),
          "linear: x {} {} does not fit W {} {}", to_string(input.shape()), name_of(input.dtype()),
          to_string(w.shape()), name_of(w.dtype()));
  require(!bias.value.defined() || bias.value.elements() == w.dim(0), "linear: a bias of {} elements does not fit W {}",
          bias.value.defined() ? bias.value.elements() : 0, to_string(w.shape()));
  Var y(Tensor(tape.runtime(), {input.dim(0), w.dim(0)}, input.dtype()));
  tape.backend().linear(input, w, bias.value, y.value());
  tape.record([&backend = tape.backend(), kept = keep_for(tape, weight, x), shape = input.shape(), dx_slot = x.slot(),
               weight, bias, dy_slot = y.slot()] {
    const Tensor dy = dy_slot.take();
    if (!dy.defined()) return;
    backend.linear_backward_weight(dy, kept ? kept() : Tensor(), weight.gradient, bias.gradient);
    backward_input(backend, dy, weight, shape, dx_slot);
  });
  return y;
}

}  // namespace lexring
