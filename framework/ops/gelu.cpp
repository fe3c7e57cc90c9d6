#include "framework/ops/gelu.h"

namespace lexring {

Var gelu(Tape& tape, const Var& u) {
  const auto activate = [&backend = tape.backend(), input = u.value()] {
    Tensor a(backend.runtime(), input.shape(), input.dtype());
    backend.gelu(input, a);
    return a;
  };
  Var a = tape.recording() ? Var(activate(), activate) : Var(activate());
  tape.record([&backend = tape.backend(), input = u.value(), du_slot = u.slot(), da_slot = a.slot()] {
    const Tensor da = da_slot.take();
    if (!da.defined()) return;
    Tensor du(backend.runtime(), input.shape(), input.dtype());
    backend.gelu_backward(input, da, du);
    du_slot.accumulate(backend, std::move(du));
  });
  return a;
}

}  // namespace lexring
