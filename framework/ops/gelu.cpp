#include "framework/ops/gelu.h"

namespace lexring {

Var gelu(Tape& tape, const Var& u) {
  Var a(Tensor(tape.runtime(), u.value().shape(), u.value().dtype()));
  tape.backend().gelu(u.value(), a.value());
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
