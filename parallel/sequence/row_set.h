/// Sets of rows as sorted, disjoint ranges that do not touch: what a schedule says about who needs what.
#pragma once

#include <cstdint>
#include <vector>

namespace lexring {

/// Rows [first, last).
struct RowSpan {
  std::int64_t first, last;
  bool operator==(const RowSpan&) const = default;
};
using RowSet = std::vector<RowSpan>;

/// Adds a span at the end, merged with the one it touches; empty spans vanish. `span` may not begin before the last one
/// does.
void append(RowSet& rows, RowSpan span);
/// Any spans, in any order, overlapping or not.
RowSet row_set(std::vector<RowSpan> spans);
std::int64_t count(const RowSet& rows);
RowSet unite(const RowSet& a, const RowSet& b);
RowSet intersect(const RowSet& a, const RowSet& b);
/// Rows of `a` that are not in `b`.
RowSet subtract(const RowSet& a, const RowSet& b);
/// In sets of at most `most` rows, in order; at least one.
std::vector<RowSet> cut(const RowSet& rows, std::int64_t most);
/// Where the rows of `part` stand in a buffer that holds the rows of `whole`, one after the other. `part` must lie in
/// `whole`.
RowSet places_within(const RowSet& whole, const RowSet& part);

}  // namespace lexring
