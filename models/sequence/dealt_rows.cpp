#include "models/sequence/dealt_rows.h"

#include <span>

namespace lexring {

namespace {

/// Adjacent rows of `from` into rows of `to`, which lie at one distance wherever rows are dealt out: one copy for as
/// many as do.
void scatter_rows(Backend& backend, const Tensor& from, std::span<const std::int64_t> places, const Tensor& to) {
  const std::int64_t width = to.row_elements();
  for (std::size_t first = 0; first < places.size();) {
    const std::int64_t place = places[first], distance = first + 1 < places.size() ? places[first + 1] - place : 1;
    std::size_t last = first + 1;
    if (distance > 0) {
      while (last < places.size() && places[last] - places[last - 1] == distance &&
             places[last] + distance <= to.rows())
        ++last;
    }
    const auto count = static_cast<std::int64_t>(last - first), step = count > 1 ? distance : 1;
    backend.copy(from.slice(static_cast<std::int64_t>(first), count).reshape({count, width}),
                 {to.slice(place, count * step).reshape({count, step * width}), 0, width});
    first = last;
  }
}

}  // namespace

DealtRows::DealtRows(Backend& backend, Communicator& group, const ModelBatch& batch,
                     const std::vector<std::vector<Chunk>>& chunks)
    : backend_(&backend), group_(&group) {
  for (const std::vector<Chunk>& of_rank : chunks) places_.push_back(row_indices(of_rank));
  own_.tokens = tokens_of(batch.tokens, chunks[static_cast<std::size_t>(group.rank())]);
  own_.ids = take_rows(batch.ids, places());
  own_.targets = take_rows(batch.targets, places());
}

Tensor DealtRows::gather(const Tensor& rows) const {
  const std::int64_t width = rows.row_elements();
  std::vector<std::int64_t> borders = {0};
  for (const auto& theirs : places_)
    borders.push_back(borders.back() + static_cast<std::int64_t>(theirs.size()) * width);
  Shape shape = rows.shape();
  shape[0] = width == 0 ? 0 : borders.back() / width;
  const Tensor by_rank(rows.runtime(), shape, rows.dtype()), gathered(rows.runtime(), shape, rows.dtype());
  const std::int64_t own = borders[static_cast<std::size_t>(group_->rank())];
  rows.runtime().copy(by_rank.raw() + static_cast<std::size_t>(own) * size_of(rows.dtype()), rows.raw(), rows.bytes());
  group_->start_all_gather({by_rank.raw(), by_rank.bytes()}, by_rank.dtype(), borders).wait();
  std::int64_t first = 0;
  for (const auto& theirs : places_) {
    const auto count = static_cast<std::int64_t>(theirs.size());
    scatter_rows(*backend_, by_rank.slice(first, count), theirs, gathered);
    first += count;
  }
  return gathered;
}

}  // namespace lexring
