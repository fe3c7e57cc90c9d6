#include "parallel/sequence/rows.h"

#include <cstring>

#include "framework/base/parallel_for.h"

namespace lexring {
namespace {

constexpr std::int64_t grain = 256;

/// Bytes of a matrix's columns.
struct Strided {
  std::byte* first;
  std::size_t row, stride;

  explicit Strided(const Columns& columns)
      : first(columns.matrix.raw() + static_cast<std::size_t>(columns.first) * size_of(columns.dtype())),
        row(static_cast<std::size_t>(columns.width) * size_of(columns.dtype())),
        stride(static_cast<std::size_t>(columns.stride()) * size_of(columns.dtype())) {}
  std::byte* at(std::int64_t n) const { return first + static_cast<std::size_t>(n) * stride; }
};

void copy_rows(const Strided& from, std::int64_t from_row, const Strided& to, std::int64_t to_row, std::int64_t rows) {
  parallel_for(0, rows, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) std::memcpy(to.at(to_row + n), from.at(from_row + n), from.row);
  });
}

}  // namespace

Tensor pack_rows(const Columns& from, const RowSet& rows) {
  if (rows.size() == 1 && from.width == from.stride()) return from.matrix.slice(rows[0].first, rows[0].last - rows[0].first);
  Tensor packed(from.matrix.runtime(), {count(rows), from.width}, from.dtype());
  std::int64_t at = 0;
  for (const RowSpan& span : rows) {
    copy_rows(Strided(from), span.first, Strided(Columns(packed)), at, span.last - span.first);
    at += span.last - span.first;
  }
  return packed;
}

void copy_columns(const Columns& from, const Columns& to) {
  require(from.rows() == to.rows() && from.width == to.width && from.dtype() == to.dtype(),
          "columns [{}, {}] {} do not fit columns [{}, {}] {}", from.rows(), from.width, name_of(from.dtype()), to.rows(), to.width,
          name_of(to.dtype()));
  copy_rows(Strided(from), 0, Strided(to), 0, from.rows());
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
