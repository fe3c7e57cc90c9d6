/// Rows on their way: what sequence attention's forward and backward pass share.
#pragma once

#include <vector>

#include "framework/backend/backend.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

/// Keys and values of other places, and in backward their gradients: the rows of a route at one of its stops.
struct RemoteKeys {
  const Route* route;
  std::size_t hop;   ///< stops[hop] is here
  Tensor keys;       ///< [rows, 2 W] keys, values; working dtype
  Tensor gradients;  ///< [rows, 2 W] f32 (f64); backward only

  const Stop& stop() const { return route->stops[hop]; }
  bool last() const { return hop + 1 == route->stops.size(); }
};

/// Messages of one step; buffers live as long as they are under way.
class Messages {
 public:
  /// Rows of `part`, which lie in a buffer of the rows `whole`, to a place.
  void send(Backend& backend, int to, const Columns& buffer, const RowSet& whole, const RowSet& part);
  void send(int to, const Tensor& rows);
  void receive(int from, const Tensor& buffer);
  void start(Communicator& ring);
  void wait() { pending_.wait(); }

 private:
  std::vector<Tensor> sent_;
  std::vector<Outgoing> outgoing_;
  std::vector<Incoming> incoming_;
  Pending pending_;  // the last member: goes first, and waits for what is under way
};

/// Keys and values of one step under way, from the remote keys of the step one round before (in the first round from
/// own rows [N, 2 W]).
struct KeyStep {
  std::vector<RemoteKeys> arriving;
  Messages messages;
};
KeyStep start_keys(Backend& backend, Communicator& ring, const Schedule& schedule, int step, const Columns& own,
                   const std::vector<RemoteKeys>& before);

/// Gradients under way when the remote keys of step `step` are `done`: on to the next stops, and home. `own` [N, 2 W]:
/// those of own rows.
struct GradientStep {
  std::vector<std::pair<const Route*, Tensor>>
      passed_on;  ///< what the stops before added to remote keys of the step one round later
  std::vector<std::pair<RowSet, Tensor>> home;  ///< own rows, what a route's stops added to them
  Messages messages;
};
GradientStep start_gradients(Backend& backend, Communicator& ring, const Schedule& schedule, int step,
                             const std::vector<RemoteKeys>& done, const Tensor& own);

}  // namespace lexring
