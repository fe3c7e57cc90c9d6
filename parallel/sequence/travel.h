/// Rows on their way: what sequence attention's forward and backward pass share.
#pragma once

#include <vector>

#include "framework/backend/backend.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

/// Rows of a route at one of its stops.
struct Block {
  const Route* route;
  std::size_t hop;   ///< stops[hop] is here
  Tensor keys;       ///< [rows, 2 W] keys, values; working dtype
  Tensor gradients;  ///< [rows, 2 W] f32 (f64); backward only

  const Stop& stop() const { return route->stops[hop]; }
  bool last() const { return hop + 1 == route->stops.size(); }
};

/// Messages of one round; buffers live as long as they are under way.
class Round {
 public:
  /// Rows of `part`, which lie in a buffer of the rows `whole`, to a place.
  void send(int to, const Columns& buffer, const RowSet& whole, const RowSet& part);
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

/// Keys and values of one round under way: from the blocks that arrived in the round before (in round 0 from own rows [N, 2 W]).
struct KeyRound {
  std::vector<Block> arriving;
  Round messages;
};
KeyRound start_keys(Communicator& ring, const Schedule& schedule, int round, const Columns& own, const std::vector<Block>& before);

/// Gradients under way after the blocks of round `round` are `done`: on to the next stops, and home. `waiting` are this place's blocks of
/// the round to come, `own` [N, 2 W] the gradients of its own rows.
struct GradientRound {
  std::vector<std::pair<std::size_t, Tensor>> passed_on;  ///< index into `waiting`, what the stops before added to it
  std::vector<std::pair<RowSet, Tensor>> home;            ///< own rows, what a route's stops added to them
  Round messages;
};
GradientRound start_gradients(Communicator& ring, const Schedule& schedule, int round, const std::vector<Block>& done,
                              const std::vector<Block>& waiting, const Tensor& own);

}  // namespace lexring
