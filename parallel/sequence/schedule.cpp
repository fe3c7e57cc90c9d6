#include "parallel/sequence/schedule.h"

#include <algorithm>

#include <fmt/format.h>

#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// Rows of the whole table that the queries of a place see.
struct Sight {
  RowSet near, sinks;  ///< by the first interval, by the second
  double pairs = 0;
};

/// Rows of one sequence by position.
class PositionIndex {
 public:
  PositionIndex(const TokenTable& tokens, const TokenTable::Sequence& rows)
      : begin_(tokens.position.begin() + rows.first), rows_(rows) {
    dense_ = rows.count > 0 && begin_[rows.count - 1] - begin_[0] == rows.count - 1;
  }
  /// The first row at `position` or later.
  std::int64_t lower(std::int64_t position) const {
    if (dense_) return rows_.first + std::clamp<std::int64_t>(position - begin_[0], 0, rows_.count);
    return rows_.first + (std::lower_bound(begin_, begin_ + rows_.count, position) - begin_);
  }

 private:
  std::vector<std::int64_t>::const_iterator begin_;
  TokenTable::Sequence rows_;
  bool dense_;
};

/// A span that ends no earlier than those before it, but may begin earlier.
void append_last(RowSet& rows, RowSpan span) {
  if (span.first >= span.last) return;
  while (!rows.empty() && rows.back().last >= span.first) {
    span.first = std::min(span.first, rows.back().first);
    rows.pop_back();
  }
  rows.push_back(span);
}

Sight sight_of(const Partition& partition, const Visibility& visible, int place) {
  Sight sight;
  std::vector<RowSpan> sinks;
  for (const Chunk& chunk : partition.place_chunks(place)) {
    const PositionIndex index(partition.whole(), partition.whole().sequences[size(chunk.sequence)]);
    for (std::int64_t i = 0; i < chunk.count; ++i) {
      const std::int64_t row = chunk.first + i * chunk.stride;
      const std::int64_t end = visible.end.empty() ? row + 1 : index.lower(visible.end[size(row)]),
                         first = std::min(index.lower(visible.first[size(row)]), end);
      sight.pairs += static_cast<double>(end - first);
      append_last(sight.near, {first, end});
      if (visible.sink_begin.empty()) continue;
      const RowSpan sink = {index.lower(visible.sink_begin[size(row)]),
                            std::min(index.lower(visible.sink_end[size(row)]), row + 1)};
      if (sink.first >= sink.last) continue;
      sight.pairs += static_cast<double>(std::max<std::int64_t>(std::min(sink.last, first) - sink.first, 0));
      if (sinks.empty() || sinks.back() != sink) sinks.push_back(sink);
    }
  }
  sight.sinks = row_set(std::move(sinks));
  return sight;
}

/// needs[d][s]: rows of place s that place d needs, by their places among the rows of s.
using Needs = std::vector<std::vector<RowSet>>;

Needs needs_of(const Partition& partition, const std::vector<RowSet>& seen) {
  const int ring = partition.ring();
  Needs needs(size(ring), std::vector<RowSet>(size(ring)));
  for (int d = 0; d < ring; ++d) {
    for (int s = 0; s < ring; ++s) {
      if (s != d) needs[size(d)][size(s)] = places_in(partition.place_chunks(s), seen[size(d)]);
    }
  }
  return needs;
}

/// A route through `stops`, which carries to each what it and later ones need. `stops` hold their own needs.
void add_route(std::vector<Route>& routes, int source, int lane, std::vector<Stop> stops) {
  RowSet later;
  for (auto stop = stops.rbegin(); stop != stops.rend(); ++stop) {
    stop->used = !stop->rows.empty();
    stop->rows = later = unite(stop->rows, later);
  }
  while (!stops.empty() && stops.back().rows.empty()) stops.pop_back();
  if (!stops.empty()) routes.push_back({source, lane, std::move(stops)});
}

std::vector<Route> ring_routes(const Partition& partition, const Needs& needs, int direction) {
  const int ring = partition.ring();
  std::vector<Route> routes;
  for (int s = 0; s < ring; ++s) {
    const auto parts = halves(partition.place_chunks(s));
    for (int lane = 0; lane < static_cast<int>(parts.size()); ++lane) {
      std::vector<Stop> stops;
      for (int hop = 1; hop < ring; ++hop) {
        const int place = (s + direction * hop + ring * ring) % ring;
        stops.push_back({place, intersect(needs[size(place)][size(s)], parts[size(lane)]), false});
      }
      add_route(routes, s, lane, std::move(stops));
    }
  }
  return routes;
}

std::vector<Route> halo_routes(const Needs& needs, const Needs& sinks) {
  const int ring = static_cast<int>(needs.size());
  std::vector<Route> routes;
  for (int s = 0; s < ring; ++s) {
    RowSet shared;  // sinks of this place: everybody gets them by the chain, or nobody would know who got them twice
    for (int d = 0; d < ring; ++d) shared = unite(shared, sinks[size(d)][size(s)]);
    std::vector<Stop> chain;
    for (int hop = 1; hop < ring; ++hop) {
      const int place = (s + hop) % ring;
      const RowSet& need = needs[size(place)][size(s)];
      add_route(routes, s, 0, {{place, subtract(need, shared), false}});
      if (RowSet own = intersect(need, shared); !own.empty()) chain.push_back({place, std::move(own), false});
    }
    add_route(routes, s, 0, std::move(chain));
  }
  return routes;
}

std::int64_t all_rows(const Schedule& schedule) {
  std::int64_t rows = 0;
  for (const Route& route : schedule.routes) {
    for (const Stop& stop : route.stops) rows += count(stop.rows);
  }
  return rows;
}

/// The most rows that arrive at a place, as a multiple of the most that any place has.
double arrivals(const Schedule& schedule, const Partition& partition) {
  std::vector<std::int64_t> arriving(size(partition.ring()));
  std::int64_t largest = 1;
  for (int p = 0; p < partition.ring(); ++p) largest = std::max(largest, partition.place_rows(p));
  for (const Route& route : schedule.routes) {
    for (const Stop& stop : route.stops) arriving[size(stop.place)] += count(stop.rows);
  }
  return static_cast<double>(*std::max_element(arriving.begin(), arriving.end())) / static_cast<double>(largest);
}

std::string describe(const Schedule& s) {
  return fmt::format("{} ({} from the busiest place in {})", name_of(s.exchange), counted(s.busiest().rows, "row"),
                     counted(s.rounds(), "round"));
}

}  // namespace

int Schedule::rounds() const {
  std::size_t most = 0;
  for (const Route& route : routes) most = std::max(most, route.stops.size());
  return static_cast<int>(most);
}

Traffic Schedule::traffic(int place) const {
  Traffic sum;
  for (const Route& route : routes) {
    for (std::size_t hop = 0; hop < route.stops.size(); ++hop) {
      if (route.holder(hop) == place) sum.rows += count(route.stops[hop].rows);
      // What was carried here leaves again, on to the next stop or home.
      if (route.stops[hop].place == place) sum.gradients += count(route.stops[hop].rows);
    }
  }
  return sum;
}

Traffic Schedule::busiest() const {
  Traffic most;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const Traffic one = traffic(static_cast<int>(p));
    most = {std::max(most.rows, one.rows), std::max(most.gradients, one.gradients)};
  }
  return most;
}

Schedule make_schedule(const Partition& partition, const Visibility& visible, Exchange exchange) {
  const auto rows = partition.whole().position.size();
  require(visible.first.size() == rows && visible.sink_begin.size() == visible.sink_end.size() &&
              (visible.sink_begin.empty() || visible.sink_begin.size() == rows),
          "a schedule for {} rows came with the visibility of {}", rows, visible.first.size());
  std::vector<RowSet> seen, sinks;
  Schedule ring{Exchange::ring, 2, {}, {}, {}}, halo{Exchange::halo, 1, {}, {}, {}};
  for (int p = 0; p < partition.ring(); ++p) {
    Sight sight = sight_of(partition, visible, p);
    seen.push_back(unite(sight.near, sight.sinks));
    sinks.push_back(std::move(sight.sinks));
    ring.pairs.push_back(sight.pairs);
  }
  halo.pairs = ring.pairs;
  const Needs needs = needs_of(partition, seen);
  if (exchange != Exchange::halo) {
    Schedule backwards = ring;
    ring.routes = ring_routes(partition, needs, +1);
    backwards.routes = ring_routes(partition, needs, -1);
    if (all_rows(backwards) < all_rows(ring)) ring.routes = std::move(backwards.routes);
    if (exchange == Exchange::ring) {
      ring.reason = describe(ring) + ", as asked for";
      return ring;
    }
  }
  halo.routes = halo_routes(needs, needs_of(partition, sinks));
  if (exchange == Exchange::halo) {
    halo.reason = describe(halo) + ", as asked for";
    return halo;
  }
  // All that a halo brings is there at once, while a ring's next hop hides behind the attention of this one.
  const std::int64_t ring_rows = all_rows(ring), halo_rows = all_rows(halo);
  const double room = halo_rows < ring_rows ? 2.0 : 1.0, needed = arrivals(halo, partition);
  const bool less = halo_rows < ring_rows || (halo_rows == ring_rows && halo.rounds() < ring.rounds());
  Schedule& chosen = less && needed <= room ? halo : ring;
  if (&chosen == &halo) {
    chosen.reason = describe(halo) + " rather than " + describe(ring);
  } else if (less) {
    chosen.reason =
        describe(ring) + fmt::format(", as a halo would be {:.1f} times a place's own rows, all at once", needed);
  } else {
    chosen.reason = describe(ring) + ", as good as " + describe(halo);
  }
  return chosen;
}

}  // namespace lexring
