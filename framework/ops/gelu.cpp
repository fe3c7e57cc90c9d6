#include "framework/ops/gelu.h"

namespace lexring {

Var gelu(Tape& tape, const Var& u, Gelu kind) {
  Backend& backend = tape.backend();
  const auto activate = [&backend, kind](const Tensor& x) {
    Tensor a(backend.runtime(), x.shape(), x.dtype());
    backend.gelu(kind, x, a);
    return a;
  };
  if (!tape.recording()) return Var(activate(u.value()));
  const Kept kept = tape.keep(u);
  Var a(activate(u.value()), [activate, kept] { return activate(kept()); });
  tape.record([&backend, kind, kept, du_slot = u.slot(), da_slot = a.slot()] {
    const Tensor da = da_slot.take();
    if (!da.defined()) return;
    const Tensor x = kept();
    Tensor du(backend.runtime(), x.shape(), x.dtype());
    backend.gelu_backward(kind, x, da, du);
    du_slot.accumulate(backend, std::move(du));
  });
  return a;
}

}  // namespace lexring
