#include "parallel/sequence/travel.h"

#include "parallel/sequence/rows.h"

namespace lexring {
namespace {

std::span<std::byte> bytes_of(const Tensor& t) { return {t.raw(), t.bytes()}; }

/// Calls f(route) for every route that has a hop of this number, in the order that all ranks share.
template <class F>
void for_each_hop(const Schedule& schedule, int hop, F&& f) {
  for (const Route& route : schedule.routes) {
    if (static_cast<std::size_t>(hop) < route.stops.size()) f(route);
  }
}

}  // namespace

void Round::send(int to, const Columns& buffer, const RowSet& whole, const RowSet& part) {
  send(to, pack_rows(buffer, places_within(whole, part)));
}

void Round::send(int to, const Tensor& rows) {
  sent_.push_back(rows);
  outgoing_.push_back({to, bytes_of(rows)});
}

void Round::receive(int from, const Tensor& buffer) { incoming_.push_back({from, bytes_of(buffer)}); }

void Round::start(Communicator& ring) { pending_ = ring.start_exchange(std::move(outgoing_), std::move(incoming_)); }

KeyRound start_keys(Communicator& ring, const Schedule& schedule, int round, const Columns& own, const std::vector<Block>& before) {
  KeyRound keys;
  const auto hop = static_cast<std::size_t>(round);
  auto held = before.begin();
  for_each_hop(schedule, round, [&](const Route& route) {
    const Stop& stop = route.stops[hop];
    if (route.holder(hop) == ring.rank()) {
      if (hop == 0) {
        keys.messages.send(stop.place, own, row_set({{0, own.rows()}}), stop.rows);
      } else {
        while (held->route != &route) ++held;
        keys.messages.send(stop.place, held->keys, held->stop().rows, stop.rows);
      }
    }
    if (stop.place == ring.rank()) {
      keys.arriving.push_back({&route, hop, Tensor(own.matrix.runtime(), {count(stop.rows), own.width}, own.dtype()), {}});
      keys.messages.receive(route.holder(hop), keys.arriving.back().keys);
    }
  });
  keys.messages.start(ring);
  return keys;
}

GradientRound start_gradients(Communicator& ring, const Schedule& schedule, int round, const std::vector<Block>& done,
                              const std::vector<Block>& waiting, const Tensor& own) {
  GradientRound gradients;
  const auto hop = static_cast<std::size_t>(round);
  auto block = done.begin();
  std::size_t next = 0;
  for_each_hop(schedule, round, [&](const Route& route) {
    const Stop& stop = route.stops[hop];
    const Stop* onward = hop + 1 < route.stops.size() ? &route.stops[hop + 1] : nullptr;
    const RowSet home = onward == nullptr ? stop.rows : subtract(stop.rows, onward->rows);
    if (stop.place == ring.rank()) {
      while (block->route != &route) ++block;
      if (onward != nullptr) gradients.messages.send(onward->place, block->gradients, stop.rows, onward->rows);
      if (!home.empty()) gradients.messages.send(route.source, block->gradients, stop.rows, home);
    }
    const auto expect = [&](const RowSet& rows) {
      Tensor buffer(own.runtime(), {count(rows), own.row_elements()}, own.dtype());
      gradients.messages.receive(stop.place, buffer);
      return buffer;
    };
    if (onward != nullptr && onward->place == ring.rank()) {
      while (waiting[next].route != &route) ++next;
      gradients.passed_on.emplace_back(next, expect(onward->rows));
    }
    if (route.source == ring.rank() && !home.empty()) gradients.home.emplace_back(home, expect(home));
  });
  gradients.messages.start(ring);
  return gradients;
}

}  // namespace lexring
