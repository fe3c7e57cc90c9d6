#include "parallel/sequence/row_set.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {

void append(RowSet& rows, RowSpan span) {
  if (span.first >= span.last) return;
  if (rows.empty() || rows.back().last < span.first) {
    rows.push_back(span);
    return;
  }
  rows.back().last = std::max(rows.back().last, span.last);
}

RowSet row_set(std::vector<RowSpan> spans) {
  std::sort(spans.begin(), spans.end(), [](const RowSpan& a, const RowSpan& b) { return a.first < b.first; });
  RowSet rows;
  for (const RowSpan& span : spans) append(rows, span);
  return rows;
}

std::int64_t count(const RowSet& rows) {
  std::int64_t sum = 0;
  for (const RowSpan& span : rows) sum += span.last - span.first;
  return sum;
}

RowSet unite(const RowSet& a, const RowSet& b) {
  std::vector<RowSpan> spans = a;
  spans.insert(spans.end(), b.begin(), b.end());
  return row_set(std::move(spans));
}

RowSet intersect(const RowSet& a, const RowSet& b) {
  RowSet common;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    append(common, {std::max(i->first, j->first), std::min(i->last, j->last)});
    if (i->last < j->last) {
      ++i;
    } else {
      ++j;
    }
  }
  return common;
}

RowSet subtract(const RowSet& a, const RowSet& b) {
  RowSet rest;
  auto j = b.begin();
  for (RowSpan span : a) {
    while (j != b.end() && j->last <= span.first) ++j;
    for (auto k = j; k != b.end() && k->first < span.last; ++k) {
      append(rest, {span.first, k->first});
      span.first = k->last;
    }
    append(rest, span);
  }
  return rest;
}

std::vector<RowSet> cut(const RowSet& rows, std::int64_t most) {
  std::vector<RowSet> parts(1);
  std::int64_t room = most;
  for (RowSpan span : rows) {
    while (span.first < span.last) {
      if (room == 0) {
        parts.emplace_back();
        room = most;
      }
      const std::int64_t last = std::min(span.last, span.first + room);
      parts.back().push_back({span.first, last});
      room -= last - span.first;
      span.first = last;
    }
  }
  return parts;
}

RowSet places_within(const RowSet& whole, const RowSet& part) {
  RowSet places;
  std::int64_t before = 0;
  auto at = whole.begin();
  for (const RowSpan& span : part) {
    while (at != whole.end() && at->last <= span.first) {
      before += at->last - at->first;
      ++at;
    }
    require(at != whole.end() && at->first <= span.first && span.last <= at->last,
            "rows [{}, {}) are asked of a buffer that does not hold them", span.first, span.last);
    append(places, {before + span.first - at->first, before + span.last - at->first});
  }
  return places;
}

}  // namespace lexring
