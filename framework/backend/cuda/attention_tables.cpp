#include "framework/backend/cuda/attention_tables.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace lexring::cuda {
namespace {

std::int32_t narrow(std::int64_t n) { return static_cast<std::int32_t>(n); }
std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Records of 32-bit integers as a tensor.
template <class Record>
Tensor upload(const Gpu& gpu, const std::vector<Record>& records) {
  constexpr std::int64_t words = sizeof(Record) / sizeof(std::int32_t);
  Tensor tensor(gpu.runtime, {static_cast<std::int64_t>(records.size()), words}, Dtype::i32);
  gpu.runtime.copy_from_host(tensor.raw(), reinterpret_cast<const std::byte*>(records.data()), tensor.bytes());
  return tensor;
}

/// Tiles [begin, end) of a sequence that hold rows [first, last).
std::pair<std::int32_t, std::int32_t> tiles_of(const Tiling& tiling, std::int64_t sequence, std::int32_t first,
                                               std::int32_t last) {
  if (sequence < 0 || first >= last) return {0, 0};
  const auto begin = tiling.tiles.begin() + tiling.first_tile[size(sequence)],
             end = tiling.tiles.begin() + tiling.first_tile[size(sequence) + 1];
  const auto holds_first = std::upper_bound(
      begin, end, first, [](std::int32_t row, const TokenTile& tile) { return row < tile.first + tile.count; });
  const auto after_last = std::lower_bound(holds_first, end, last,
                                           [](const TokenTile& tile, std::int32_t row) { return tile.first < row; });
  return {narrow(holds_first - tiling.tiles.begin()), narrow(after_last - tiling.tiles.begin())};
}

std::vector<QueryTile> query_tiles(const Tiling& queries, const Tiling& keys, const Ranges& ranges) {
  std::vector<QueryTile> tiles;
  for (std::size_t t = 0; t < queries.tiles.size(); ++t) {
    const TokenTile& tile = queries.tiles[t];
    const RowRange& hull = ranges.tiles[t];
    const std::int64_t sequence = ranges.key_sequence[size(tile.sequence)];
    QueryTile q{};
    q.first = narrow(tile.first), q.count = narrow(tile.count), q.base = narrow(queries.base[t]);
    std::tie(q.tiles_begin, q.tiles_end) = tiles_of(keys, sequence, hull.first, hull.last);
    std::tie(q.sink_tiles_begin, q.sink_tiles_end) = tiles_of(keys, sequence, hull.sink_first, hull.sink_last);
    if (q.tiles_begin < q.tiles_end) {  // what both intervals reach is met once
      if (q.sink_tiles_begin >= q.tiles_begin) q.sink_tiles_begin = std::max(q.sink_tiles_begin, q.tiles_end);
      else if (q.sink_tiles_end > q.tiles_end)
        q.tiles_begin = q.sink_tiles_begin, q.tiles_end = q.sink_tiles_end, q.sink_tiles_begin = q.sink_tiles_end;
      else q.sink_tiles_end = std::min(q.sink_tiles_end, q.tiles_begin);
      q.sink_tiles_end = std::max(q.sink_tiles_begin, q.sink_tiles_end);
    }
    q.whole_first = 0, q.whole_last = std::numeric_limits<std::int32_t>::max();
    for (std::int64_t n = tile.first; n < tile.first + tile.count; ++n) {
      q.whole_first = std::max(q.whole_first, ranges.rows[size(n)].first);
      q.whole_last = std::min(q.whole_last, ranges.rows[size(n)].last);
    }
    tiles.push_back(q);
  }
  return tiles;
}

std::vector<KeyTile> key_tiles(const Tiling& keys, const std::vector<QueryTile>& queries) {
  std::vector<KeyTile> tiles;
  for (std::size_t t = 0; t < keys.tiles.size(); ++t) {
    tiles.push_back({narrow(keys.tiles[t].first),
                     narrow(keys.tiles[t].count),
                     std::numeric_limits<std::int32_t>::max(),
                     0,
                     narrow(keys.base[t]),
                     {}});
  }
  for (std::size_t q = 0; q < queries.size(); ++q) {
    const auto meet = [&](std::int32_t begin, std::int32_t end) {
      for (std::int32_t t = begin; t < end; ++t) {
        tiles[size(t)].tiles_begin = std::min(tiles[size(t)].tiles_begin, narrow(static_cast<std::int64_t>(q)));
        tiles[size(t)].tiles_end = narrow(static_cast<std::int64_t>(q) + 1);
      }
    };
    meet(queries[q].tiles_begin, queries[q].tiles_end);
    meet(queries[q].sink_tiles_begin, queries[q].sink_tiles_end);
  }
  for (KeyTile& tile : tiles) tile.tiles_begin = std::min(tile.tiles_begin, tile.tiles_end);
  return tiles;
}

/// Per row, what its decay is raised to.
Tensor distances(const Gpu& gpu, const TokenTable& tokens, const Tiling& tiling, AttentionRole role) {
  std::vector<float> distance(tokens.position.size());
  for (std::size_t t = 0; t < tiling.tiles.size(); ++t) {
    const TokenTile& tile = tiling.tiles[t];
    for (std::int64_t n = tile.first; n < tile.first + tile.count; ++n) {
      const double after = tokens.coordinate_of(size(n)) - static_cast<double>(tiling.base[t]);
      distance[size(n)] = static_cast<float>(role == AttentionRole::query ? after : -after);
    }
  }
  return Tensor::from(gpu.runtime, {tokens.rows()}, distance);
}

/// Positions as biases are told of them, which read the differences of those of one sequence alone: whole numbers as
/// they are; others from the sequence's first in the call on, in a unit that leaves all below 2^30: of sequences that
/// span a million it is 2^-10.
struct PositionUnits {
  std::map<std::int64_t, double> origin;  ///< by sequence
  double per_position = 1;

  PositionUnits(const TokenTable& queries, const TokenTable& keys) {
    if (queries.coordinate.empty() && keys.coordinate.empty()) return;
    std::map<std::int64_t, double> last;
    double longest = 1;
    for (const TokenTable* const table : {&queries, &keys}) {
      for (const TokenTable::Sequence& s : table->sequences) {
        if (s.count == 0) continue;
        const double begin = table->coordinate_of(size(s.first)),
                     end = table->coordinate_of(size(s.first + s.count - 1));
        double &from = origin.try_emplace(s.id, begin).first->second, &to = last.try_emplace(s.id, end).first->second;
        from = std::min(from, begin), to = std::max(to, end);
        longest = std::max(longest, to - from);
      }
    }
    per_position = std::exp2(29 - std::ilogb(longest));
  }
};

Tensor positions(const Gpu& gpu, const TokenTable& tokens, const PositionUnits& units) {
  if (units.origin.empty())
    return upload(gpu, std::vector<std::int32_t>(tokens.position.begin(), tokens.position.end()));
  std::vector<std::int32_t> positions;
  for (const TokenTable::Sequence& s : tokens.sequences) {
    for (std::int64_t n = s.first; n < s.first + s.count; ++n) {
      const double after = tokens.coordinate_of(size(n)) - units.origin.at(s.id);
      positions.push_back(static_cast<std::int32_t>(std::nearbyint(units.per_position * after)));
    }
  }
  return upload(gpu, positions);
}

void require_narrow(const AttentionForm& form, const TokenTable& tokens) {
  const std::int64_t largest = std::numeric_limits<std::int32_t>::max() - (form.decays() ? decay_span(form) / 2 : 0);
  for (const auto& s : tokens.sequences) {
    if (s.count == 0) continue;
    const std::int64_t last = tokens.position[size(s.first + s.count - 1)];
    require(last <= largest, "position {} is beyond {}, the last that the cuda backend's attention can count", last,
            largest);
  }
}

bool needs_positions(const AttentionForm& form, const ScoreBias& bias) {
  return !bias.slopes.empty() || bias.by_distance.defined() || form.clamps();
}

AttentionTables make_tables(const Gpu& gpu, const AttentionForm& form, const ScoreBias& bias,
                            const AttentionRows& query_rows, const TokenTable& keys, std::int64_t query_tile,
                            std::int64_t key_tile) {
  const TokenTable& queries = query_rows.tokens;
  const Visibility& visible = query_rows.visible;
  require_narrow(form, queries);
  require_narrow(form, keys);
  const PositionUnits units(queries, keys);
  require(units.per_position == 1 || !bias.by_distance.defined(),
          "a bias by distance has no entries between whole positions");
  const MemoryPurpose purpose("attention tables");
  const Tiling query_tiling = make_tiling(form, queries, query_tile), key_tiling = make_tiling(form, keys, key_tile);
  const Ranges ranges = make_ranges(queries, keys, visible, query_tiling);
  const std::vector<QueryTile> query_records = query_tiles(query_tiling, key_tiling, ranges);
  const std::vector<KeyTile> key_records = key_tiles(key_tiling, query_records);
  AttentionTables tables;
  tables.query_tiles_count = narrow(static_cast<std::int64_t>(query_records.size()));
  tables.key_tiles_count = narrow(static_cast<std::int64_t>(key_records.size()));
  tables.sinks = !visible.sink_begin.empty();
  tables.query_tiles = upload(gpu, query_records);
  tables.key_tiles = upload(gpu, key_records);
  tables.ranges = upload(gpu, ranges.rows);
  if (!form.log_decay.empty()) {
    tables.query_distance = distances(gpu, queries, query_tiling, AttentionRole::query);
    tables.key_distance = distances(gpu, keys, key_tiling, AttentionRole::key);
    std::vector<float> decay;
    for (const double d : form.log_decay) {
      const double binary = d * 1.4426950408889634;
      const auto high = static_cast<float>(binary);
      decay.insert(decay.end(), {high, static_cast<float>(binary - static_cast<double>(high))});
    }
    tables.decay = Tensor::from(gpu.runtime, {static_cast<std::int64_t>(form.log_decay.size()), 2}, decay);
  }
  if (needs_positions(form, bias)) {
    tables.query_position = positions(gpu, queries, units);
    tables.key_position = positions(gpu, keys, units);
  }
  if (!bias.slopes.empty()) {
    std::vector<float> slopes = bias.slopes;
    for (float& slope : slopes) slope *= log2_e / static_cast<float>(units.per_position);
    tables.slopes = Tensor::from(gpu.runtime, {form.heads}, slopes);
  }
  return tables;
}

}  // namespace

const AttentionTables& AttentionTableCache::of(const Gpu& gpu, const AttentionForm& form, const ScoreBias& bias,
                                               const SharedRows& queries, const SharedRows& keys,
                                               std::int64_t query_tile, std::int64_t key_tile) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.query_tile == query_tile && entry.key_tile == key_tile && entry.queries.lock() == queries &&
           entry.keys.lock() == keys && entry.log_decay == form.log_decay && entry.slopes == bias.slopes &&
           entry.positions == needs_positions(form, bias);
  });
  if (found != entries_.end()) {
    std::rotate(found, found + 1, entries_.end());
    return entries_.back().tables;
  }
  std::erase_if(entries_, [](const Entry& entry) { return entry.queries.expired() || entry.keys.expired(); });
  const std::int64_t rows = queries->tokens.rows() + keys->tokens.rows();
  std::int64_t held = rows;
  for (const Entry& entry : entries_) held += entry.rows;
  while (!entries_.empty() && (entries_.size() >= kept || held > kept_rows)) {
    held -= entries_.front().rows;
    entries_.erase(entries_.begin());
  }
  entries_.push_back({query_tile, key_tile, form.log_decay, bias.slopes, needs_positions(form, bias), queries, keys,
                      rows, make_tables(gpu, form, bias, *queries, keys->tokens, query_tile, key_tile)});
  return entries_.back().tables;
}

}  // namespace lexring::cuda
