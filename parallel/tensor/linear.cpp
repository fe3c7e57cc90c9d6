#include "parallel/tensor/linear.h"

#include <algorithm>

#include "framework/ops/linear.h"

namespace lexring {
namespace {

void check(const char* layer, const Tensor& x, const Weight& weight, const Vector& bias) {
  const Tensor& w = weight.compute;
  require(x.shape().size() == 2 && w.shape().size() == 2 && x.dim(1) == w.dim(1) && x.dtype() == w.dtype(),
          "{}: x {} {} does not fit W {} {}", layer, to_string(x.shape()), name_of(x.dtype()), to_string(w.shape()),
          name_of(w.dtype()));
  require(!bias.value.defined() || bias.value.elements() == w.dim(0), "{}: a bias of {} elements does not fit W {}",
          layer, bias.value.defined() ? bias.value.elements() : 0, to_string(w.shape()));
}

/// Gathers everybody's rows, and calls product(rows, result) once for each stretch of them that is there: this rank's
/// own first, while the others are on their way.
template <class Product>
Tensor gather_into(const Tensor& own, const RowShards& shards, const Tensor& result, const Product& product) {
  const auto stretch = [&](const Tensor& rows, std::int64_t first) {
    if (rows.rows() > 0) product(rows, result.slice(first, rows.rows()));
  };
  PendingRows coming = start_gather_rows(own, shards);
  stretch(own, shards.first());
  Tensor all = coming.wait();
  const std::int64_t after = shards.first() + shards.count();
  stretch(all.slice(0, shards.first()), 0);
  stretch(all.slice(after, shards.rows() - after), after);
  return all;
}

/// The bias of a row-parallel layer is added, and has its gradient taken, by one rank.
Vector once(const Vector& bias, const RowShards& shards) { return shards.group().rank() == 0 ? bias : Vector(); }

/// y [n, O], this rank's rows of the sum over ranks of x w^T + b. A slice of outputs travels while the next is
/// computed.
Tensor product_into_shards(Backend& backend, const Tensor& x, const Tensor& w, const Tensor& b,
                           const RowShards& shards) {
  constexpr std::int64_t least_bytes = 1 << 20, most_slices = 4;
  const std::int64_t rows = shards.rows(), outputs = w.dim(0);
  const std::int64_t bytes = rows * outputs * static_cast<std::int64_t>(size_of(x.dtype()));
  const std::int64_t slices = std::clamp<std::int64_t>(std::min(bytes / least_bytes, outputs), 1, most_slices);
  std::vector<PendingRows> coming;
  for (std::int64_t i = 0; i < slices; ++i) {
    const std::int64_t first = outputs * i / slices, count = outputs * (i + 1) / slices - first;
    Tensor partial(backend.runtime(), {rows, count}, x.dtype());
    backend.linear(x, w.slice(first, count), b.defined() ? b.slice(first, count) : b, partial);
    coming.push_back(start_reduce_scatter_rows(std::move(partial), shards));
  }
  if (slices == 1) return coming.front().wait();
  const Tensor y(backend.runtime(), {shards.count(), outputs}, x.dtype());
  for (std::int64_t i = 0; i < slices; ++i) {
    const Tensor slice = coming[static_cast<std::size_t>(i)].wait();
    backend.copy(slice, {y, outputs * i / slices, slice.dim(1)});
  }
  return y;
}

}  // namespace

Var column_parallel_linear(Tape& tape, const Var& x, const Weight& weight, const Vector& bias,
                           const RowShards& shards) {
  if (shards.alone()) return linear(tape, x, weight, bias);
  check("column_parallel_linear", x.value(), weight, bias);
  const std::int64_t inputs = weight.compute.dim(1);
  Var y(Tensor(tape.runtime(), {shards.rows(), weight.compute.dim(0)}, x.value().dtype()));
  gather_into(x.value(), shards, y.value(), [&](const Tensor& rows, const Tensor& to) {
    tape.backend().linear(rows, weight.compute, bias.value, to);
  });
  tape.record([&backend = tape.backend(), kept = keep_for(tape, weight, x), inputs, weight, bias, shards,
               dx_slot = x.slot(), dy_slot = y.slot()] {
    const Tensor dy = dy_slot.take();
    if (!dy.defined()) return;
    PendingRows all_x = kept ? start_gather_rows(kept(), shards) : PendingRows();
    Tensor all_dx(backend.runtime(), {shards.rows(), inputs}, dy.dtype());
    backend.linear_backward_input(dy, weight.compute, all_dx);
    PendingRows dx = start_reduce_scatter_rows(std::move(all_dx), shards);
    backend.linear_backward_weight(dy, kept ? all_x.wait() : Tensor(), weight.gradient, bias.gradient);
    dx_slot.accumulate(backend, dx.wait());
  });
  return y;
}

Var row_parallel_linear(Tape& tape, const Var& x, const Weight& weight, const Vector& bias, const RowShards& shards) {
  if (shards.alone()) return linear(tape, x, weight, bias);
  check("row_parallel_linear", x.value(), weight, bias);
  Var y(product_into_shards(tape.backend(), x.value(), weight.compute, once(bias, shards).value, shards));
  tape.record([&backend = tape.backend(), kept = keep_for(tape, weight, x), shape = x.value().shape(), weight, bias,
               shards, dx_slot = x.slot(), dy_slot = y.slot()] {
    const Tensor dy = dy_slot.take();
    if (!dy.defined()) return;
    Tensor dx(backend.runtime(), shape, dy.dtype());
    const Tensor all_dy = gather_into(dy, shards, dx, [&](const Tensor& rows, const Tensor& to) {
      backend.linear_backward_input(rows, weight.compute, to);
    });
    backend.linear_backward_weight(all_dy, kept ? kept() : Tensor(), weight.gradient, once(bias, shards).gradient);
    dx_slot.accumulate(backend, std::move(dx));
  });
  return y;
}

}  // namespace lexring
