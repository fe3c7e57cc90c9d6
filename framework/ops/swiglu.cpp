#include "framework/ops/swiglu.h"

namespace lexring {

Var swiglu(Tape& tape, const Var& gate_up) {
  const Tensor& input = gate_up.value();
  require(input.shape().size() == 2 && input.dim(1) % 2 == 0, "swiglu: {} is not gate beside up",
          to_string(input.shape()));
  Backend& backend = tape.backend();
  const auto activate = [&backend](const Tensor& x) {
    Tensor a(backend.runtime(), {x.dim(0), x.dim(1) / 2}, x.dtype());
    backend.swiglu(x, a);
    return a;
  };
  if (!tape.recording()) return Var(activate(input));
  const Kept kept = tape.keep(gate_up);
  Var a(activate(input), [activate, kept] { return activate(kept()); });
  tape.record([&backend, kept, dinput_slot = gate_up.slot(), da_slot = a.slot()] {
    const Tensor da = da_slot.take();
    if (!da.defined()) return;
    const Tensor x = kept();
    Tensor dx(backend.runtime(), x.shape(), x.dtype());
    backend.swiglu_backward(x, da, dx);
    dinput_slot.accumulate(backend, std::move(dx));
  });
  return a;
}

}  // namespace lexring
