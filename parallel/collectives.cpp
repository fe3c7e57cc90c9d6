#include "parallel/collectives.h"

namespace lexring {
namespace {

std::span<std::byte> bytes_of(const Tensor& tensor) { return {tensor.raw(), tensor.bytes()}; }

Tensor copy_of(const Tensor& tensor) {
  Tensor copy(tensor.runtime(), tensor.shape(), tensor.dtype());
  tensor.runtime().copy(copy.raw(), tensor.raw(), tensor.bytes());
  return copy;
}

void check_matrix(const char* operation, const Tensor& x, std::int64_t rows, std::int64_t width) {
  require(x.shape().size() == 2 && x.dim(0) == rows && (width < 0 || x.dim(1) == width),
          "{}: {} came where {} rows{} belong", operation, to_string(x.shape()), rows,
          width < 0 ? "" : fmt::format(" of {}", width));
}

/// Columns of each rank, [W r / R, W (r + 1) / R).
Columns columns_of(const Tensor& matrix, const std::vector<std::int64_t>& borders, int rank) {
  const auto r = static_cast<std::size_t>(rank);
  return {matrix, borders[r], borders[r + 1] - borders[r]};
}

/// Every rank's rows of x [N, w] go to it; what comes are this rank's rows of everybody's columns.
Tensor exchange_for_rows(Backend& backend, const Tensor& x, const RowShards& shards, std::int64_t width) {
  const int ranks = shards.group().size();
  const auto borders = even_borders(width, ranks);
  check_matrix("columns_to_rows", x, shards.rows(), columns_of(x, borders, shards.group().rank()).width);
  Tensor y(x.runtime(), {shards.count(), width}, x.dtype());
  std::vector<Tensor> parts;
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int r = 0; r < ranks; ++r) {
    parts.emplace_back(x.runtime(), Shape{shards.count(), columns_of(y, borders, r).width}, x.dtype());
    outgoing.push_back({r, bytes_of(x.slice(shards.first(r), shards.count(r)))});
    incoming.push_back({r, bytes_of(parts.back())});
  }
  shards.group().start_exchange(std::move(outgoing), std::move(incoming)).wait();
  for (int r = 0; r < ranks; ++r) backend.copy(parts[static_cast<std::size_t>(r)], columns_of(y, borders, r));
  return y;
}

/// Every rank's columns of x [n, W] go to it; everybody's rows come to lie one after another.
Tensor exchange_for_columns(Backend& backend, const Tensor& x, const RowShards& shards) {
  const int ranks = shards.group().size();
  check_matrix("rows_to_columns", x, shards.count(), -1);
  const auto borders = even_borders(x.dim(1), ranks);
  Tensor y(x.runtime(), {shards.rows(), columns_of(x, borders, shards.group().rank()).width}, x.dtype());
  std::vector<Tensor> parts;
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int r = 0; r < ranks; ++r) {
    const Columns columns = columns_of(x, borders, r);
    parts.emplace_back(x.runtime(), Shape{shards.count(), columns.width}, x.dtype());
    backend.copy(columns, parts.back());
    outgoing.push_back({r, bytes_of(parts.back())});
    incoming.push_back({r, bytes_of(y.slice(shards.first(r), shards.count(r)))});
  }
  shards.group().start_exchange(std::move(outgoing), std::move(incoming)).wait();
  return y;
}

/// Records that dx = adjoint(dy).
template <class Adjoint>
Var recorded(Tape& tape, const Var& x, Tensor value, const Adjoint& adjoint) {
  Var y(std::move(value));
  tape.record([&backend = tape.backend(), dx_slot = x.slot(), dy_slot = y.slot(), adjoint] {
    Tensor dy = dy_slot.take();
    if (dy.defined()) dx_slot.accumulate(backend, adjoint(backend, std::move(dy)));
  });
  return y;
}

}  // namespace

RowShards::RowShards(Communicator& group, std::int64_t rows)
    : group_(&group), borders_(even_borders(rows, group.size())) {}

std::vector<std::int64_t> RowShards::borders(std::int64_t width) const {
  std::vector<std::int64_t> scaled = borders_;
  for (std::int64_t& border : scaled) border *= width;
  return scaled;
}

Tensor PendingRows::wait() {
  pending_.wait();
  if (count_ == moving_.rows()) return std::move(moving_);
  const Tensor rows = copy_of(moving_.slice(first_, count_));
  moving_ = Tensor();
  return rows;
}

PendingRows start_gather_rows(const Tensor& x, const RowShards& shards) {
  check_matrix("gather_rows", x, shards.count(), -1);
  if (shards.alone()) return PendingRows(x);
  Tensor all(x.runtime(), {shards.rows(), x.dim(1)}, x.dtype());
  x.runtime().copy(all.slice(shards.first(), shards.count()).raw(), x.raw(), x.bytes());
  Pending pending = shards.group().start_all_gather(bytes_of(all), all.dtype(), shards.borders(all.dim(1)));
  const std::int64_t rows = all.rows();
  return {std::move(all), 0, rows, std::move(pending)};
}

PendingRows start_reduce_scatter_rows(Tensor x, const RowShards& shards) {
  check_matrix("reduce_scatter_rows", x, shards.rows(), -1);
  if (shards.alone()) return PendingRows(std::move(x));
  Pending pending = shards.group().start_reduce_scatter(bytes_of(x), x.dtype(), shards.borders(x.dim(1)));
  return {std::move(x), shards.first(), shards.count(), std::move(pending)};
}

Var columns_to_rows(Tape& tape, const Var& x, const RowShards& shards, std::int64_t width) {
  if (shards.alone()) return x;
  return recorded(tape, x, exchange_for_rows(tape.backend(), x.value(), shards, width),
                  [shards](Backend& backend, const Tensor& dy) { return exchange_for_columns(backend, dy, shards); });
}

Var rows_to_columns(Tape& tape, const Var& x, const RowShards& shards) {
  if (shards.alone()) return x;
  return recorded(tape, x, exchange_for_columns(tape.backend(), x.value(), shards),
                  [shards, width = x.value().dim(1)](Backend& backend, const Tensor& dy) {
                    return exchange_for_rows(backend, dy, shards, width);
                  });
}

Var gather_rows(Tape& tape, const Var& x, const RowShards& shards) {
  if (shards.alone()) return x;
  return recorded(tape, x, start_gather_rows(x.value(), shards).wait(),
                  [shards](Backend&, Tensor dy) { return start_reduce_scatter_rows(std::move(dy), shards).wait(); });
}

Var reduce_scatter_rows(Tape& tape, const Var& x, const RowShards& shards) {
  if (shards.alone()) return x;
  return recorded(tape, x, start_reduce_scatter_rows(x.value(), shards).wait(),
                  [shards](Backend&, const Tensor& dy) { return start_gather_rows(dy, shards).wait(); });
}

}  // namespace lexring
