/// Checkpoints that the nodes of a run keep to themselves, in memory or on a disk of their own: each rank's shard on
/// its node, and a copy of it on the next node of the ring, so that the loss of any one node leaves all of them. What
/// is found when the run starts again is made an ordinary checkpoint (promotion.h).
///
/// A save goes through stages, and all ranks are in the same one: a step's small all-reduce sums stage_done, and where
/// all are done, `advance` begins the next. Shards are written by a thread; their files are sent to the neighbours
/// while steps go on; the copies, and the manifest, are written by a thread; then the local checkpoint before is
/// deleted. A step waits for the copy to the host and for small messages. A node holds its shards and its neighbour's,
/// once, and twice while a save is under way; a rank has one shard of its own and one of its neighbour's in memory
/// beside that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/local_place.h"
#include "parallel/comm/communicator.h"

namespace lexring {

class LocalTier {
 public:
  /// Begins a turn of the run, and deletes what the earlier ones left on the nodes. `host`: for memory of the host, all
  /// ranks. Collective.
  LocalTier(Communicator& host, LocalPlace place);
  ~LocalTier();  ///< waits for thread and messages; what is not whole stays, and is of use all the same if all of it is

  /// Where they lie and how many bytes a node needs, from those of this rank's tensors; and why copies would be
  /// pointless, or what could not be deleted. Collective.
  std::string describe(const std::vector<LogicalTensor>& tensors) const;

  /// Begins a save. Nothing is in flight. Not collective, but all ranks save the same step.
  void save(const TrainingState& state, const std::vector<LogicalTensor>& tensors);
  bool in_flight() const;
  /// Whether this rank's part of the stage is done, well or not.
  bool stage_done() const;
  /// Every rank calls it once the stage is done on all. A line for people where a save failed, once until one succeeds:
  /// it is given up on all ranks, the local checkpoint before stays. Collective.
  std::optional<std::string> advance();
  /// The newest that is whole; -1: none.
  std::int64_t newest() const;

  /// The run went back: nothing that was saved before is of use, as at its start. Collective.
  void begin_turn();

  /// The shared checkpoint has everything: deletes all of this run on the nodes. Collective.
  void clear();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
