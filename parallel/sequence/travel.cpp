#include "parallel/sequence/travel.h"

#include "parallel/sequence/rows.h"

namespace lexring {
namespace {

std::span<std::byte> bytes_of(const Tensor& t) { return {t.raw(), t.bytes()}; }

/// Calls f(route, hop) for every route that hops in this step, in the order that all ranks share.
template <class F>
void for_each_hop(const Schedule& schedule, int step, F&& f) {
  const auto hop = static_cast<std::size_t>(step / schedule.lanes);
  for (const Route& route : schedule.routes) {
    if (route.lane == step % schedule.lanes && hop < route.stops.size()) f(route, hop);
  }
}

}  // namespace

void Messages::send(Backend& backend, int to, const Columns& buffer, const RowSet& whole, const RowSet& part) {
  send(to, pack_rows(backend, buffer, places_within(whole, part)));
}

void Messages::send(int to, const Tensor& rows) {
  sent_.push_back(rows);
  outgoing_.push_back({to, bytes_of(rows)});
}

void Messages::receive(int from, const Tensor& buffer) { incoming_.push_back({from, bytes_of(buffer)}); }

void Messages::start(Communicator& ring) { pending_ = ring.start_exchange(std::move(outgoing_), std::move(incoming_)); }

KeyStep start_keys(Backend& backend, Communicator& ring, const Schedule& schedule, int step, const Columns& own,
                   const std::vector<RemoteKeys>& before) {
  const MemoryPurpose purpose("ring: keys");
  KeyStep keys;
  auto held = before.begin();
  for_each_hop(schedule, step, [&](const Route& route, std::size_t hop) {
    const Stop& stop = route.stops[hop];
    if (route.holder(hop) == ring.rank()) {
      if (hop == 0) {
        keys.messages.send(backend, stop.place, own, row_set({{0, own.rows()}}), stop.rows);
      } else {
        while (held->route != &route) ++held;
        keys.messages.send(backend, stop.place, held->keys, held->stop().rows, stop.rows);
      }
    }
    if (stop.place == ring.rank()) {
      keys.arriving.push_back(
          {&route, hop, Tensor(own.matrix.runtime(), {count(stop.rows), own.width}, own.dtype()), {}});
      keys.messages.receive(route.holder(hop), keys.arriving.back().keys);
    }
  });
  keys.messages.start(ring);
  return keys;
}

GradientStep start_gradients(Backend& backend, Communicator& ring, const Schedule& schedule, int step,
                             const std::vector<RemoteKeys>& done, const Tensor& own) {
  const MemoryPurpose purpose("ring: gradients of keys");
  GradientStep gradients;
  auto keys = done.begin();
  for_each_hop(schedule, step, [&](const Route& route, std::size_t hop) {
    const Stop& stop = route.stops[hop];
    const Stop* onward = hop + 1 < route.stops.size() ? &route.stops[hop + 1] : nullptr;
    const RowSet home = onward == nullptr ? stop.rows : subtract(stop.rows, onward->rows);
    if (stop.place == ring.rank()) {
      while (keys->route != &route) ++keys;
      if (onward != nullptr) gradients.messages.send(backend, onward->place, keys->gradients, stop.rows, onward->rows);
      if (!home.empty()) gradients.messages.send(backend, route.source, keys->gradients, stop.rows, home);
    }
    const auto expect = [&](const RowSet& rows) {
      Tensor buffer(own.runtime(), {count(rows), own.row_elements()}, own.dtype());
      gradients.messages.receive(stop.place, buffer);
      return buffer;
    };
    if (onward != nullptr && onward->place == ring.rank())
      gradients.passed_on.emplace_back(&route, expect(onward->rows));
    if (route.source == ring.rank() && !home.empty()) gradients.home.emplace_back(home, expect(home));
  });
  gradients.messages.start(ring);
  return gradients;
}

}  // namespace lexring
