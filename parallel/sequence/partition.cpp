#include "parallel/sequence/partition.h"

#include <algorithm>

#include "framework/base/error.h"
#include "parallel/comm/communicator.h"

namespace lexring {
namespace {

/// Chunks of one sequence that a place holds.
std::vector<Chunk> cut_sequence(const TokenTable::Sequence& rows, std::int64_t sequence, PartitionKind kind, int place,
                                int ring) {
  const auto even = [&](int part, int parts) {
    const std::int64_t begin = rows.count * part / parts, end = rows.count * (part + 1) / parts;
    return Chunk{sequence, rows.first + begin, end - begin, 1};
  };
  switch (kind) {
    case PartitionKind::contiguous:
      return {even(place, ring)};
    case PartitionKind::zigzag: {
      Chunk low = even(place, 2 * ring), high = even(2 * ring - 1 - place, 2 * ring);
      if (low.first + low.count != high.first) return {low, high};
      return {{sequence, low.first, low.count + high.count, 1}};  // the last place's two are one
    }
    case PartitionKind::striped:
      return {{sequence, rows.first + place, std::max<std::int64_t>(0, (rows.count - place + ring - 1) / ring), ring}};
    case PartitionKind::automatic:
      break;
  }
  fail("a partition was asked for that is still to be chosen; give contiguous, zigzag or striped");
}

/// f(chunk, rows of the chunks before it)
template <class F>
void for_each_chunk(const std::vector<Chunk>& chunks, F&& f) {
  std::int64_t before = 0;
  for (const Chunk& chunk : chunks) {
    f(chunk, before);
    before += chunk.count;
  }
}

}  // namespace

Partition::Partition(TokenTable whole, PartitionKind kind, int ring, int ulysses)
    : whole_(std::move(whole)), kind_(kind), ring_(ring), ulysses_(ulysses), places_(static_cast<std::size_t>(ring)) {
  require(ring >= 1 && ulysses >= 1, "a partition over ring {} x ulysses {} ranks", ring, ulysses);
  for (int place = 0; place < ring; ++place) {
    for (std::size_t s = 0; s < whole_.sequences.size(); ++s) {
      for (const Chunk& chunk : cut_sequence(whole_.sequences[s], static_cast<std::int64_t>(s), kind, place, ring)) {
        if (chunk.count > 0) places_[static_cast<std::size_t>(place)].push_back(chunk);
      }
    }
  }
}

std::int64_t Partition::place_rows(int place) const { return row_count(place_chunks(place)); }

std::vector<std::int64_t> Partition::ulysses_borders(int place) const {
  return even_borders(place_rows(place), ulysses_);
}

std::vector<Chunk> Partition::rank_chunks(int rank) const {
  const int place = rank / ulysses_, index = rank % ulysses_;
  const auto borders = ulysses_borders(place);
  return cut_chunks(place_chunks(place), borders[static_cast<std::size_t>(index)],
                    borders[static_cast<std::size_t>(index) + 1]);
}

std::int64_t row_count(const std::vector<Chunk>& chunks) {
  std::int64_t rows = 0;
  for (const Chunk& chunk : chunks) rows += chunk.count;
  return rows;
}

std::vector<std::int64_t> row_indices(const std::vector<Chunk>& chunks) {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(row_count(chunks)));
  for (const Chunk& chunk : chunks) {
    for (std::int64_t i = 0; i < chunk.count; ++i) rows.push_back(chunk.first + i * chunk.stride);
  }
  return rows;
}

std::vector<Chunk> cut_chunks(const std::vector<Chunk>& chunks, std::int64_t first, std::int64_t last) {
  std::vector<Chunk> part;
  for_each_chunk(chunks, [&](const Chunk& chunk, std::int64_t before) {
    const std::int64_t begin = std::max<std::int64_t>(first - before, 0), end = std::min(last - before, chunk.count);
    if (begin < end) part.push_back({chunk.sequence, chunk.first + begin * chunk.stride, end - begin, chunk.stride});
  });
  return part;
}

RowSet places_in(const std::vector<Chunk>& chunks, const RowSet& whole_rows) {
  RowSet places;
  for_each_chunk(chunks, [&](const Chunk& chunk, std::int64_t before) {
    const auto rows_below = [&](std::int64_t row) {  // how many of the chunk's
      return std::clamp<std::int64_t>((row - chunk.first + chunk.stride - 1) / chunk.stride, 0, chunk.count);
    };
    const auto ends_after = [](const RowSpan& span, std::int64_t row) { return span.last <= row; };
    auto span = std::lower_bound(whole_rows.begin(), whole_rows.end(), chunk.first, ends_after);
    for (; span != whole_rows.end() && span->first <= chunk.first + (chunk.count - 1) * chunk.stride; ++span) {
      append(places, {before + rows_below(std::max(span->first, chunk.first)), before + rows_below(span->last)});
    }
  });
  return places;
}

std::vector<Chunk> chunks_at(const std::vector<Chunk>& chunks, const RowSet& places) {
  std::vector<Chunk> parts;
  auto span = places.begin();
  for_each_chunk(chunks, [&](const Chunk& chunk, std::int64_t before) {
    while (span != places.end() && span->first < before + chunk.count) {
      const std::int64_t begin = std::max(span->first - before, std::int64_t{0}),
                         end = std::min(span->last - before, chunk.count);
      if (begin < end) parts.push_back({chunk.sequence, chunk.first + begin * chunk.stride, end - begin, chunk.stride});
      if (span->last > before + chunk.count) break;
      ++span;
    }
  });
  return parts;
}

TokenTable tokens_at(const TokenTable& whole, const std::vector<Chunk>& chunks, const RowSet& places) {
  TokenTable table;
  table.position.reserve(static_cast<std::size_t>(count(places)));
  for (const Chunk& part : chunks_at(chunks, places)) {
    const std::int64_t id = whole.sequences[static_cast<std::size_t>(part.sequence)].id;
    if (table.sequences.empty() || table.sequences.back().id != id) table.sequences.push_back({id, table.rows(), 0});
    table.sequences.back().count += part.count;
    for (std::int64_t i = 0; i < part.count; ++i) {
      const auto row = static_cast<std::size_t>(part.first + i * part.stride);
      table.position.push_back(whole.position[row]);
      if (!whole.coordinate.empty()) table.coordinate.push_back(whole.coordinate[row]);
    }
  }
  return table;
}

TokenTable tokens_of(const TokenTable& whole, const std::vector<Chunk>& chunks) {
  return tokens_at(whole, chunks, row_set({{0, row_count(chunks)}}));
}

std::array<RowSet, 2> halves(const std::vector<Chunk>& chunks) {
  std::array<RowSet, 2> parts;
  std::int64_t begin = 0;
  for (auto first = chunks.begin(); first != chunks.end();) {
    std::int64_t rows = 0;
    auto chunk = first;
    for (; chunk != chunks.end() && chunk->sequence == first->sequence; ++chunk) rows += chunk->count;
    const std::int64_t middle = chunk - first == 2 ? first->count : rows / 2;
    append(parts[0], {begin, begin + middle});
    append(parts[1], {begin + middle, begin + rows});
    begin += rows;
    first = chunk;
  }
  return parts;
}

Visibility take_rows(const Visibility& whole, const std::vector<std::int64_t>& rows) {
  return {take_rows(whole.first, rows), take_rows(whole.sink_begin, rows), take_rows(whole.sink_end, rows),
          take_rows(whole.end, rows)};
}

}  // namespace lexring
