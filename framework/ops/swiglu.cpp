#include "framework/ops/swiglu.h"

namespace lexring {

Var swiglu(Tape& tape, const Var& gate_up) {
  const Tensor& input = gate_up.value();
  require(input.shape().size() == 2 && input.dim(1) % 2 == 0, "swiglu: {} is not gate beside up",
          to_string(input.shape()));
  const auto activate = [&backend = tape.backend(), input] {
    Tensor a(backend.runtime(), {input.dim(0), input.dim(1) / 2}, input.dtype());
    backend.swiglu(input, a);
    return a;
  };
  Var a = tape.recording() ? Var(activate(), activate) : Var(activate());
  tape.record([&backend = tape.backend(), input, dinput_slot = gate_up.slot(), da_slot = a.slot()] {
    const Tensor da = da_slot.take();
    if (!da.defined()) return;
    Tensor dinput(backend.runtime(), input.shape(), input.dtype());
    backend.swiglu_backward(input, da, dinput);
    dinput_slot.accumulate(backend, std::move(dinput));
  });
  return a;
}

}  // namespace lexring
