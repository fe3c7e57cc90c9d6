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

}  // namespace lexring
