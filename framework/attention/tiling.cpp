#include "framework/attention/tiling.h"

#include <algorithm>
#include <cmath>

#include "framework/base/error.h"
#include "framework/base/parallel_for.h"

namespace lexring {
namespace {

/// The smallest interval that holds both.
void widen(std::int32_t& first, std::int32_t& last, std::int32_t from, std::int32_t to) {
  if (from >= to) return;
  const bool empty = first >= last;
  first = empty ? from : std::min(first, from);
  last = empty ? to : std::max(last, to);
}

/// The first of rows [first, first + count) at `position` or later.
std::int32_t lower_row(const TokenTable& keys, const TokenTable::Sequence& s, std::int64_t position) {
  const auto begin = keys.position.begin() + s.first;
  if (s.count == 0 || position <= *begin) return static_cast<std::int32_t>(s.first);
  if (begin[s.count - 1] - *begin == s.count - 1)
    return static_cast<std::int32_t>(s.first + std::min(position - *begin, s.count));  // no gaps
  return static_cast<std::int32_t>(std::lower_bound(begin, begin + s.count, position) - keys.position.begin());
}

}  // namespace

std::int64_t span_of(const TokenTable& tokens, std::int64_t row, std::int64_t span) {
  const auto n = static_cast<std::size_t>(row);
  if (span >= no_decay_span) return 0;
  if (tokens.coordinate.empty()) return tokens.position[n] / span;
  return static_cast<std::int64_t>(std::floor(tokens.coordinate[n] / static_cast<double>(span)));
}

std::vector<TokenTile> make_tiles(const TokenTable& tokens, std::int64_t largest, std::int64_t span) {
  require(largest >= 1 && span >= 1, "tiles of at most {} tokens within {} positions are impossible", largest, span);
  std::vector<TokenTile> tiles;
  for (std::size_t s = 0; s < tokens.sequences.size(); ++s) {
    const auto& sequence = tokens.sequences[s];
    const std::int64_t end = sequence.first + sequence.count;
    for (std::int64_t first = sequence.first; first < end;) {
      const std::int64_t own = span_of(tokens, first, span);
      std::int64_t next = first + 1;
      while (next < end && next - first < largest && span_of(tokens, next, span) == own) ++next;
      tiles.push_back({static_cast<std::int64_t>(s), first, next - first});
      first = next;
    }
  }
  return tiles;
}

Tiling make_tiling(const AttentionForm& form, const TokenTable& tokens, std::int64_t largest) {
  Tiling tiling;
  const std::int64_t span = decay_span(form);
  tiling.tiles = make_tiles(tokens, largest, span);
  for (const TokenTile& tile : tiling.tiles) {
    tiling.base.push_back(form.decays() ? span_of(tokens, tile.first, span) * span + span / 2 : 0);
  }
  tiling.first_tile.assign(tokens.sequences.size() + 1, static_cast<std::int64_t>(tiling.tiles.size()));
  for (auto t = static_cast<std::int64_t>(tiling.tiles.size()); t-- > 0;) {
    tiling.first_tile[static_cast<std::size_t>(tiling.tiles[static_cast<std::size_t>(t)].sequence)] = t;
  }
  for (std::size_t s = tokens.sequences.size(); s-- > 0;) {  // sequences without rows have no tile of their own
    if (tokens.sequences[s].count == 0) tiling.first_tile[s] = tiling.first_tile[s + 1];
  }
  return tiling;
}

Ranges make_ranges(const TokenTable& queries, const TokenTable& keys, const Visibility& visible,
                   const Tiling& query_tiling) {
  Ranges ranges;
  ranges.rows.assign(static_cast<std::size_t>(queries.rows()), RowRange{0, 0, 0, 0});
  for (const TokenTable::Sequence& q : queries.sequences) {
    const auto found = std::lower_bound(keys.sequences.begin(), keys.sequences.end(), q.id,
                                        [](const auto& s, std::int64_t id) { return s.id < id; });
    const bool present = found != keys.sequences.end() && found->id == q.id;
    ranges.key_sequence.push_back(present ? found - keys.sequences.begin() : -1);
    if (!present) continue;
    parallel_for(q.first, q.first + q.count, 1024, [&](std::int64_t first, std::int64_t last) {
      for (auto n = static_cast<std::size_t>(first); n < static_cast<std::size_t>(last); ++n) {
        RowRange& row = ranges.rows[n];
        const std::int64_t own = queries.position[n];
        row.first = lower_row(keys, *found, visible.first[n]);
        row.last = std::max(row.first, lower_row(keys, *found, visible.end_of(n, own)));
        if (visible.sink_begin.empty()) continue;
        row.sink_first = lower_row(keys, *found, visible.sink_begin[n]);
        row.sink_last = std::max(row.sink_first, lower_row(keys, *found, std::min(visible.sink_end[n], own + 1)));
      }
    });
  }
  for (const TokenTile& tile : query_tiling.tiles) {
    RowRange hull{0, 0, 0, 0};
    for (std::int64_t n = tile.first; n < tile.first + tile.count; ++n) {
      const RowRange& row = ranges.rows[static_cast<std::size_t>(n)];
      widen(hull.first, hull.last, row.first, row.last);
      widen(hull.sink_first, hull.sink_last, row.sink_first, row.sink_last);
    }
    ranges.tiles.push_back(hull);
  }
  return ranges;
}

}  // namespace lexring
