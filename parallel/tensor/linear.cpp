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

/// y [n, O], this rank's rows of the sum over ranks and products of x w^T + b. A slice of outputs travels while the
/// next is computed.
Tensor product_into_shards(Backend& backend, const std::vector<RowParallelProduct>& products, const RowShards& shards) {
  constexpr std::int64_t least_bytes = 1 << 20, most_slices = 4;
  const Dtype dtype = products.front().x.value().dtype();
  const std::int64_t rows = shards.rows(), outputs = products.front().weight.compute.dim(0);
  const std::int64_t bytes = rows * outputs * static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t slices =
      shards.alone() ? 1 : std::clamp<std::int64_t>(std::min(bytes / least_bytes, outputs), 1, most_slices);
  std::vector<PendingRows> coming;
  for (std::int64_t i = 0; i < slices; ++i) {
    const std::int64_t first = outputs * i / slices, count = outputs * (i + 1) / slices - first;
    Tensor partial(backend.runtime(), {rows, count}, dtype);
    Write write = Write::overwrite;
    for (const RowParallelProduct& product : products) {
      const Tensor b = once(product.bias, shards).value;
      backend.linear(product.x.value(), product.weight.compute.slice(first, count),
                     b.defined() ? b.slice(first, count) : b, partial, std::exchange(write, Write::accumulate));
    }
    coming.push_back(start_reduce_scatter_rows(std::move(partial), shards));
  }
  if (slices == 1) return coming.front().wait();
  const Tensor y(backend.runtime(), {shards.count(), outputs}, dtype);
  for (std::int64_t i = 0; i < slices; ++i) {
    const Tensor slice = coming[static_cast<std::size_t>(i)].wait();
    backend.copy(slice, {y, outputs * i / slices, slice.dim(1)});
  }
  return y;
}

/// What backward reads of a product, and where its gradient goes.
struct ProductStep {
  Kept kept;
  Shape shape;
  Weight weight;
  Vector bias;
  GradientSlot dx_slot;
};

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

Var row_parallel_linear(Tape& tape, std::vector<RowParallelProduct> products, const RowShards& shards) {
  std::vector<ProductStep> steps;
  for (const RowParallelProduct& of : products) {
    check("row_parallel_linear", of.x.value(), of.weight, of.bias);
    steps.push_back({keep_for(tape, of.weight, of.x), of.x.value().shape(), of.weight, of.bias, of.x.slot()});
  }
  Var y(product_into_shards(tape.backend(), products, shards));
  tape.record([&backend = tape.backend(), steps = std::move(steps), shards, dy_slot = y.slot()] {
    const Tensor dy = dy_slot.take();
    if (!dy.defined()) return;
    Tensor all_dy = shards.alone() ? dy : Tensor();
    for (const ProductStep& step : steps) {
      Write write = Write::overwrite;
      const auto input = [&](const Tensor& rows, const Tensor& to) {
        backend.linear_backward_input(rows, step.weight.compute, to, write);
      };
      const auto weight = [&] {
        backend.linear_backward_weight(all_dy, step.kept ? step.kept() : Tensor(), step.weight.gradient,
                                       once(step.bias, shards).gradient);
      };
      const bool all_here = all_dy.defined();
      if (all_here) weight();
      write = step.dx_slot.get().defined() ? Write::accumulate : Write::overwrite;
      Tensor dx = write == Write::accumulate ? step.dx_slot.take() : Tensor(backend.runtime(), step.shape, dy.dtype());
      if (all_here) {
        input(all_dy, dx);
      } else {
        all_dy = gather_into(dy, shards, dx, input);
        weight();
      }
      step.dx_slot.accumulate(backend, std::move(dx));
    }
  });
  return y;
}

void add_column_parallel_low_rank(Tape& tape, const Var& x, const Var& y, const LowRank& layer,
                                  const RowShards& shards) {
  add_low_rank(tape, y, gather_rows(tape, low_rank_input(tape, x, layer), shards), layer);
}

void add_row_parallel_low_rank(Tape& tape, const Var& x, const Var& y, const LowRank& layer, const RowShards& shards) {
  add_low_rank(tape, y, reduce_scatter_rows(tape, low_rank_input(tape, x, layer), shards), layer);
}

}  // namespace lexring
