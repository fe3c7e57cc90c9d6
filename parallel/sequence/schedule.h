/// Which key rows travel where, in which round: a pure function of the partition and of what the whole batch's rows
/// see. Every rank computes the same schedule, so nobody asks anybody.
///
/// A Route takes rows of one place from stop to stop; hop i happens in round i, all hops of a round at once. A stop
/// gets the rows that it or a later stop needs, so a route narrows as it goes and ends where nobody needs anything.
/// Gradients of the rows are sent on behind them, and from the last stop that had a row directly to its source.
///
///   ring   two routes per place, of the earlier and the later half of its rows (two lanes), through its neighbours in
///          one direction (the one that sends fewer rows)
///   halo   one hop from whoever holds what a place needs; first keys of documents (sinks), which many need, go through
///          a chain of those that need them, so no rank sends them more than once
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/sequence/partition.h"

namespace lexring {

/// `automatic`: the halo where it sends less (and what arrives is at most twice a place's own rows), or as much in
/// fewer rounds (and at most as many rows arrive); else the ring.
enum class Exchange { automatic, ring, halo };
constexpr auto words(Exchange) {
  return std::to_array<Word<Exchange>>(
      {{Exchange::automatic, "auto"}, {Exchange::ring, "ring"}, {Exchange::halo, "halo"}});
}

struct Stop {
  int place;
  RowSet rows;  ///< carried to it, by their places among the source's rows
  bool used;    ///< some query of this place sees some of them
};

struct Route {
  int source;
  int lane;
  std::vector<Stop> stops;
  /// Who has the rows before hop `hop` (0 is the first).
  int holder(std::size_t hop) const { return hop == 0 ? source : stops[hop - 1].place; }
};

/// Rows that a place sends in a forward pass, and gradients of rows in a backward pass (where keys and values travel
/// once more).
struct Traffic {
  std::int64_t rows = 0, gradients = 0;
};

struct Schedule {
  Exchange exchange = Exchange::ring;  ///< never automatic
  int lanes = 1;
  std::vector<Route> routes;
  std::vector<double> pairs;  ///< by place: visible pairs of its queries and their keys, the work of attention
  std::string reason;         ///< what was chosen, and why, for people

  int rounds() const;
  /// Hop `hop` of a route happens in step hop * lanes + lane.
  int steps() const { return rounds() * lanes; }
  Traffic traffic(int place) const;
  Traffic busiest() const;  ///< the most rows, and the most gradients, that any place sends
};

/// `visible` is of the whole table. Throws Error where it does not fit it.
Schedule make_schedule(const Partition& partition, const Visibility& visible, Exchange exchange);

}  // namespace lexring
