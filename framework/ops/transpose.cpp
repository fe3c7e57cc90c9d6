#include "framework/ops/transpose.h"

namespace lexring {

namespace {

Tensor transposed(Backend& backend, const Tensor& x) {
  const std::int64_t rows = x.dim(0), columns = x.dim(1);
  const Tensor y(backend.runtime(), {columns, rows}, x.dtype());
  for (std::int64_t c = 0; c < columns; ++c) backend.copy({x, c, 1}, y.slice(c, 1).reshape({rows, 1}));
  return y;
}

}  // namespace

Var transpose(Tape& tape, const Var& x) {
  require(x.value().shape().size() == 2, "{} is no matrix to transpose", to_string(x.value().shape()));
  Var y(transposed(tape.backend(), x.value()));
  tape.record([&backend = tape.backend(), x_slot = x.slot(), y_slot = y.slot()] {
    const Tensor dy = y_slot.take();
    if (dy.defined()) x_slot.accumulate(backend, transposed(backend, dy));
  });
  return y;
}

}  // namespace lexring
