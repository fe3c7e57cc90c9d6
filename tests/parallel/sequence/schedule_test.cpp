// Partitions and schedules are arithmetic: checked row by row, and at half a million tokens.
#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "parallel/sequence/schedule.h"
#include "tests/framework/backend/attention_problem.h"

namespace lexring::testing {
namespace {

constexpr PartitionKind kinds[] = {PartitionKind::contiguous, PartitionKind::zigzag, PartitionKind::striped};

TokenTable unequal() {
  return make_table({{0, consecutive(37)},
                     {1, consecutive(1)},
                     {4, with_gaps(5, 7, 1)},
                     {9, with_gaps(64, 3, 2)},
                     {11, consecutive(3)}});
}

TEST(RowSets, AreSetsOfRows) {
  const RowSet a = row_set({{8, 9}, {0, 4}, {3, 5}, {5, 6}, {2, 2}});
  EXPECT_EQ(a, (RowSet{{0, 6}, {8, 9}}));
  EXPECT_EQ(count(a), 7);
  EXPECT_EQ(unite(a, {{6, 8}}), (RowSet{{0, 9}}));
  EXPECT_EQ(intersect(a, {{1, 2}, {4, 20}}), (RowSet{{1, 2}, {4, 6}, {8, 9}}));
  EXPECT_EQ(subtract(a, {{1, 2}, {4, 8}}), (RowSet{{0, 1}, {2, 4}, {8, 9}}));
  EXPECT_EQ(subtract(a, a), RowSet{});
  EXPECT_EQ(places_within(a, {{1, 3}, {8, 9}}), (RowSet{{1, 3}, {6, 7}}));
  EXPECT_THROW(places_within(a, {{5, 7}}), Error);
}

TEST(RowSets, AreCutIntoSetsOfAtMostSoManyRows) {
  const RowSet a = {{0, 5}, {8, 9}, {20, 24}};
  EXPECT_EQ(cut(a, 3), (std::vector<RowSet>{{{0, 3}}, {{3, 5}, {8, 9}}, {{20, 23}}, {{23, 24}}}));
  EXPECT_EQ(cut(a, 5), (std::vector<RowSet>{{{0, 5}}, {{8, 9}, {20, 24}}}));
  EXPECT_EQ(cut(a, 100), (std::vector<RowSet>{a}));
  EXPECT_EQ(cut({}, 3), std::vector<RowSet>(1));
}

TEST(Partition, EveryRowHasOneRankAndTablesAreValid) {
  const TokenTable whole = unequal();
  for (const PartitionKind kind : kinds) {
    for (int ring = 1; ring <= 9; ++ring) {
      for (int ulysses = 1; ulysses <= 3; ++ulysses) {
        const Partition partition(whole, kind, ring, ulysses);
        std::vector<std::int64_t> held;
        for (int rank = 0; rank < partition.ranks(); ++rank) {
          const std::vector<Chunk> chunks = partition.rank_chunks(rank);
          const std::vector<std::int64_t> rows = row_indices(chunks);
          EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
          const TokenTable own = tokens_of(whole, chunks);
          EXPECT_NO_THROW(check(own));
          EXPECT_EQ(own.position, take_rows(whole.position, rows));
          held.insert(held.end(), rows.begin(), rows.end());
        }
        std::sort(held.begin(), held.end());
        std::vector<std::int64_t> all(whole.position.size());
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(held, all) << name_of(kind) << " " << ring << " x " << ulysses;
      }
    }
  }
}

TEST(Partition, PlacesAreWhereTheirNamesSay) {
  const TokenTable whole = dense_tokens(1, 12);
  EXPECT_EQ(row_indices(Partition(whole, PartitionKind::contiguous, 3).place_chunks(1)),
            (std::vector<std::int64_t>{4, 5, 6, 7}));
  EXPECT_EQ(row_indices(Partition(whole, PartitionKind::zigzag, 3).place_chunks(1)),
            (std::vector<std::int64_t>{2, 3, 8, 9}));
  EXPECT_EQ(row_indices(Partition(whole, PartitionKind::striped, 3).place_chunks(1)),
            (std::vector<std::int64_t>{1, 4, 7, 10}));
  EXPECT_EQ(Partition(whole, PartitionKind::zigzag, 3).place_chunks(2).size(), 1U);
  EXPECT_EQ(halves(Partition(whole, PartitionKind::zigzag, 3).place_chunks(1))[0], (RowSet{{0, 2}}));
  const auto parts = halves(Partition(unequal(), PartitionKind::striped, 2).place_chunks(1));
  EXPECT_EQ(parts[0], (RowSet{{0, 9}, {18, 19}, {20, 36}}));  // of 18, 0, 2, 32 and 1 rows
  EXPECT_EQ(unite(parts[0], parts[1]), (RowSet{{0, 53}}));
  EXPECT_THROW(Partition(whole, PartitionKind::automatic, 3), Error);
}

/// Rows of the whole table that a query sees, the slow way.
std::vector<bool> seen_by(const TokenTable& whole, const Visibility& v, const TokenTable::Sequence& s,
                          std::int64_t row) {
  std::vector<bool> seen(whole.position.size());
  const auto n = static_cast<std::size_t>(row);
  for (std::int64_t m = s.first; m < s.first + s.count; ++m) {
    const std::int64_t key = whole.position[static_cast<std::size_t>(m)];
    const bool sink = m <= row && !v.sink_begin.empty() && key >= v.sink_begin[n] && key < v.sink_end[n];
    seen[static_cast<std::size_t>(m)] = (key >= v.first[n] && key < v.end_of(n, whole.position[n])) || sink;
  }
  return seen;
}

TEST(Schedule, EveryPlaceGetsWhatItSeesOnceAndEveryGradientComesHome) {
  const TokenTable whole = unequal();
  for (const char* pattern : {"causal", "window", "blockwise", "sink_window", "documents", "documents_sinks", "holes",
                              "full", "full_documents"}) {
    const Visibility visible = make_visibility(pattern, 9, whole);
    for (const PartitionKind kind : kinds) {
      for (int ring = 1; ring <= 6; ++ring) {
        const Partition partition(whole, kind, ring);
        for (const Exchange exchange : {Exchange::ring, Exchange::halo, Exchange::automatic}) {
          SCOPED_TRACE(::testing::Message()
                       << pattern << " " << name_of(kind) << " " << ring << " " << name_of(exchange));
          const Schedule schedule = make_schedule(partition, visible, exchange);
          std::int64_t sent = 0, returned = 0, carried = 0, pairs = 0;
          for (int p = 0; p < ring; ++p) {
            std::vector<int> arrived(whole.position.size());
            for (const Route& route : schedule.routes) {
              const auto source = row_indices(partition.place_chunks(route.source));
              for (const Stop& stop : route.stops) {
                if (stop.place != p) continue;
                carried += count(stop.rows);
                for (const RowSpan& span : stop.rows) {
                  for (std::int64_t i = span.first; i < span.last; ++i)
                    ++arrived[static_cast<std::size_t>(source[static_cast<std::size_t>(i)])];
                }
              }
            }
            for (const std::int64_t own : row_indices(partition.place_chunks(p)))
              ++arrived[static_cast<std::size_t>(own)];
            for (const int times : arrived) EXPECT_LE(times, 1);
            std::int64_t mine = 0;
            for (const Chunk& chunk : partition.place_chunks(p)) {
              for (std::int64_t i = 0; i < chunk.count; ++i) {
                const auto seen = seen_by(whole, visible, whole.sequences[static_cast<std::size_t>(chunk.sequence)],
                                          chunk.first + i * chunk.stride);
                for (std::size_t m = 0; m < seen.size(); ++m)
                  EXPECT_TRUE(!seen[m] || arrived[m] == 1) << "row " << m << " at place " << p;
                mine += std::count(seen.begin(), seen.end(), true);
              }
            }
            EXPECT_EQ(schedule.pairs[static_cast<std::size_t>(p)], static_cast<double>(mine));
            pairs += mine;
            const Traffic traffic = schedule.traffic(p);
            sent += traffic.rows;
            returned += traffic.gradients;
          }
          EXPECT_EQ(sent, carried);
          EXPECT_EQ(returned, carried);
          EXPECT_GT(pairs, 0);
        }
      }
    }
  }
}

Visibility causal(const TokenTable& tokens) {
  return {std::vector<std::int64_t>(tokens.position.size(), 0), {}, {}, {}};
}

TEST(Schedule, TheCausalRingUnderZigzagSendsAQuarterLess) {
  const std::int64_t length = 16 * 40;
  const TokenTable whole = dense_tokens(1, length);
  for (const int ring : {2, 4, 8}) {
    const std::int64_t chunk = length / (2 * ring);
    const Schedule schedule =
        make_schedule(Partition(whole, PartitionKind::zigzag, ring), causal(whole), Exchange::ring);
    std::int64_t rows = 0;
    for (int p = 0; p < ring; ++p) rows += schedule.traffic(p).rows;
    EXPECT_EQ(rows,
              chunk * (ring * (ring - 1) + ring * (ring - 1) / 2));  // low chunks go all the way, high ones half of it
    EXPECT_EQ(schedule.rounds(), ring - 1);
  }
}

TEST(Schedule, ContiguousHopsThatNobodyNeedsAreLeftOut) {
  const TokenTable whole = dense_tokens(1, 40);
  const Schedule schedule =
      make_schedule(Partition(whole, PartitionKind::contiguous, 4), causal(whole), Exchange::ring);
  std::int64_t rows = 0;
  for (int p = 0; p < 4; ++p) rows += schedule.traffic(p).rows;
  EXPECT_EQ(rows, 10 * (3 + 2 + 1));
  // Documents that end where the chunks do: nothing travels.
  Visibility apart = causal(whole);
  for (std::size_t n = 0; n < 40; ++n) apart.first[n] = static_cast<std::int64_t>(n) / 10 * 10;
  const Schedule none = make_schedule(Partition(whole, PartitionKind::contiguous, 4), apart, Exchange::automatic);
  EXPECT_EQ(none.rounds(), 0);
  EXPECT_EQ(none.busiest().rows, 0);
}

TEST(Schedule, HaloRowsOfTheBusiestPlaceDependOnNeitherLengthNorRanks) {
  constexpr std::int64_t extent = 512;
  for (const char* pattern : {"blockwise", "window", "sink_window"}) {
    for (const PartitionKind kind : {PartitionKind::contiguous, PartitionKind::zigzag}) {
      std::int64_t rows = -1, gradients = -1;
      for (const int ring : {2, 4, 8}) {
        if (kind == PartitionKind::zigzag && ring == 2)
          continue;  // place 1's two chunks are one there: half the borders
        for (const std::int64_t length : {8192, 65536, 524288}) {
          const TokenTable whole = dense_tokens(1, length);
          const Schedule schedule =
              make_schedule(Partition(whole, kind, ring), make_visibility(pattern, extent, whole), Exchange::automatic);
          SCOPED_TRACE(::testing::Message()
                       << pattern << " " << name_of(kind) << " " << ring << " " << length << ": " << schedule.reason);
          const Traffic busiest = schedule.busiest();
          if (rows < 0) rows = busiest.rows, gradients = busiest.gradients;
          EXPECT_EQ(busiest.rows, rows);
          EXPECT_EQ(busiest.gradients, gradients);
        }
      }
      EXPECT_LE(rows, kind == PartitionKind::zigzag ? 2 * extent + 4 : extent + 4);
    }
  }
}

TEST(Schedule, ZigzagAndStripedBalanceTheWorkAndContiguousDoesNot) {
  for (const int ring : {2, 3, 4, 8, 16}) {
    const TokenTable whole = dense_tokens(2, 20011);
    const auto slowest = [&](PartitionKind kind) {
      const auto pairs = make_schedule(Partition(whole, kind, ring), causal(whole), Exchange::ring).pairs;
      return *std::max_element(pairs.begin(), pairs.end()) * ring / std::accumulate(pairs.begin(), pairs.end(), 0.0);
    };
    EXPECT_LT(slowest(PartitionKind::zigzag), 1.05);
    EXPECT_LT(slowest(PartitionKind::striped), 1.05);
    EXPECT_GT(slowest(PartitionKind::contiguous), 1.4);
  }
}

TEST(Schedule, TheDefaultIsTheRingForCausalAndTheHaloForWindows) {
  const TokenTable whole = dense_tokens(2, 4096);
  const auto chosen = [&](const char* pattern, PartitionKind kind) {
    const Schedule schedule =
        make_schedule(Partition(whole, kind, 4), make_visibility(pattern, 64, whole), Exchange::automatic);
    EXPECT_NE(schedule.reason.find(name_of(schedule.exchange)), std::string::npos);
    return schedule.exchange;
  };
  EXPECT_EQ(chosen("causal", PartitionKind::zigzag), Exchange::ring);
  EXPECT_EQ(chosen("causal", PartitionKind::contiguous), Exchange::ring);
  EXPECT_EQ(chosen("window", PartitionKind::zigzag), Exchange::halo);
  EXPECT_EQ(chosen("window", PartitionKind::striped), Exchange::ring);
  EXPECT_EQ(chosen("sink_window", PartitionKind::zigzag), Exchange::halo);
  EXPECT_EQ(chosen("window", PartitionKind::contiguous), Exchange::ring);  // the same neighbour, the same rows
}

}  // namespace
}  // namespace lexring::testing
