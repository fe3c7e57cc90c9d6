#include "framework/ops/low_rank.h"

#include "framework/ops/linear.h"
#include "framework/ops/scale_queries.h"

namespace lexring {

namespace {

/// Calls run(part, its columns of t).
template <class Run>
void for_parts(const LowRank& layer, const Tensor& t, const Run& run) {
  std::int64_t first = 0;
  for (const LowRankPart& part : layer.parts) {
    const std::int64_t rank = part.b.compute.dim(1);
    run(part, Columns(t, first, rank));
    first += rank;
  }
}

Columns outputs_of(const LowRankPart& part, const Tensor& y) { return {y, part.first, part.b.compute.dim(0)}; }

}  // namespace

Var low_rank_input(Tape& tape, const Var& x, const LowRank& layer) {
  const Dtype master = layer.a.compute.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32;
  const Tensor factors(tape.runtime(), {x.value().dim(0)}, master);
  tape.backend().fill(factors, layer.scale);
  return scale_rows(tape, factors, linear(tape, x, layer.a, {}));
}

void add_low_rank(Tape& tape, const Var& y, const Var& t, const LowRank& layer) {
  require(t.value().dim(0) == y.value().dim(0) && t.value().dim(1) == layer.a.compute.dim(0),
          "add_low_rank: t {} fits neither y {} nor A {}", to_string(t.value().shape()), to_string(y.value().shape()),
          to_string(layer.a.compute.shape()));
  for_parts(layer, t.value(), [&](const LowRankPart& part, const Columns& inputs) {
    tape.backend().linear(inputs, part.b.compute, {}, outputs_of(part, y.value()), Write::accumulate);
  });
  tape.record([&backend = tape.backend(), layer, kept = tape.keep(t), shape = t.value().shape(), dt_slot = t.slot(),
               dy_slot = y.slot()] {
    const Tensor dy = dy_slot.get();
    if (!dy.defined()) return;
    const Tensor inputs = kept();
    Tensor dt(backend.runtime(), shape, dy.dtype());
    for_parts(layer, dt, [&](const LowRankPart& part, const Columns& dinputs) {
      backend.linear_backward_weight(outputs_of(part, dy), Columns(inputs, dinputs.first, dinputs.width),
                                     part.b.gradient, {});
      backend.linear_backward_input(outputs_of(part, dy), part.b.compute, dinputs);
    });
    dt_slot.accumulate(backend, std::move(dt));
  });
}

}  // namespace lexring
