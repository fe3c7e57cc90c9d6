#include "parallel/sequence/rows.h"

namespace lexring {

Tensor pack_rows(Backend& backend, const Columns& from, const RowSet& rows) {
  if (rows.size() == 1 && from.width == from.stride())
    return from.matrix.slice(rows[0].first, rows[0].last - rows[0].first);
  Tensor packed(backend.runtime(), {count(rows), from.width}, from.dtype());
  std::int64_t at = 0;
  for (const RowSpan& span : rows) {
    const std::int64_t length = span.last - span.first;
    backend.copy({from.matrix.slice(span.first, length), from.first, from.width}, packed.slice(at, length));
    at += length;
  }
  return packed;
}

void add_rows(Backend& backend, const Tensor& from, const RowSet& rows, const Tensor& into) {
  std::int64_t at = 0;
  for (const RowSpan& span : rows) {
    const std::int64_t length = span.last - span.first;
    backend.add(from.slice(at, length), into.slice(span.first, length));
    at += length;
  }
}

namespace {

/// Calls f(rows, the same rows of `whole`) for as many at once as lie at one distance.
template <class F>
void for_each_run(const Tensor& rows, const std::vector<Chunk>& chunks, const Tensor& whole, F&& f) {
  const std::int64_t width = whole.row_elements();
  std::int64_t at = 0;
  const auto run = [&](std::int64_t first, std::int64_t count, std::int64_t stride) {
    if (count == 0) return;
    const Tensor part = rows.slice(at, count), apart = whole.slice(first, count * stride);
    f(part.reshape({count, width}), Columns(apart.reshape({count, stride * width}), 0, width));
    at += count;
  };
  for (const Chunk& chunk : chunks) {
    const std::int64_t strided = chunk.stride == 1 ? chunk.count : chunk.count - 1;  // behind the last no rows may be
    run(chunk.first, strided, chunk.stride);
    run(chunk.first + strided * chunk.stride, chunk.count - strided, 1);
  }
}

}  // namespace

Tensor take_chunks(Backend& backend, const Tensor& whole, const std::vector<Chunk>& chunks) {
  Shape shape = whole.shape();
  shape[0] = row_count(chunks);
  Tensor taken(backend.runtime(), shape, whole.dtype());
  for_each_run(taken, chunks, whole, [&](const Tensor& rows, const Columns& place) { backend.copy(place, rows); });
  return taken;
}

void put_chunks(Backend& backend, const Tensor& rows, const std::vector<Chunk>& chunks, const Tensor& whole) {
  for_each_run(rows, chunks, whole, [&](const Tensor& part, const Columns& place) { backend.copy(part, place); });
}

void add_chunks(Backend& backend, const Tensor& rows, const std::vector<Chunk>& chunks, const Tensor& whole) {
  for_each_run(rows, chunks, whole, [&](const Tensor& part, const Columns& place) {
    const Tensor sum(backend.runtime(), part.shape(), part.dtype());
    backend.copy(place, sum);
    backend.add(part, sum);
    backend.copy(sum, place);
  });
}

}  // namespace lexring
