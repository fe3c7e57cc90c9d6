#include "framework/ops/embedding.h"

namespace lexring {

Var embedding(Tape& tape, const std::vector<Lookup>& lookups, const Tensor& constant, Dtype residual) {
  require(!lookups.empty(), "an embedding needs at least one table");
  const std::int64_t rows = lookups.front().index.elements();
  const std::int64_t width = lookups.front().table.value.row_elements();
  Tensor x(tape.runtime(), {rows, width}, residual);
  Write write = Write::overwrite;
  for (const Lookup& lookup : lookups) {
    require(lookup.index.dtype() == Dtype::i32 && lookup.index.elements() == rows &&
                lookup.table.value.row_elements() == width,
            "embedding: index {} into table {} does not give [{}, {}]", to_string(lookup.index.shape()),
            to_string(lookup.table.value.shape()), rows, width);
    tape.backend().embedding(lookup.index, lookup.table.value, x, write);
    write = Write::accumulate;
  }
  if (constant.defined()) {
    require(constant.shape() == x.shape(), "embedding: a constant of shape {} was added to {}",
            to_string(constant.shape()), to_string(x.shape()));
    tape.backend().add(constant, x);
  }
  Var out(std::move(x));
  tape.record([&backend = tape.backend(), lookups, dx_slot = out.slot()] {
    const Tensor dx = dx_slot.take();
    if (!dx.defined()) return;
    for (const Lookup& lookup : lookups) {
      if (lookup.table.gradient.defined()) backend.embedding_backward(lookup.index, dx, lookup.table.gradient);
    }
  });
  return out;
}

}  // namespace lexring
