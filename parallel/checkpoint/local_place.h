/// Where the nodes of a run keep checkpoints of their own, and whose they are.
///
/// A node's directory has one directory per run, named after the hash of the run's shared directory; in it one per turn
/// of the run, and in that one per node:
///
///     /dev/shm/lexring-0123456789abcdef/5d1c.../node7/step-00000120/shard-0003.h5
///
/// A turn is what one start of a run computes. Its name is random, and the run's shared directory holds that of its
/// newest one (`local_turn`): every start begins another, so that what an earlier one left is of use only to the start
/// that comes right after it, and never to another run in the same directory, nor to one that has gone back to an
/// earlier checkpoint since.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

class LocalPlace {
 public:
  /// `local`: the same path on every node; `run`: the run's shared directory; `nodes`: the name of every rank's node,
  /// of which those with one name share what lies in `local`. Collective.
  LocalPlace(Communicator& world, const std::filesystem::path& local, std::filesystem::path run,
             std::vector<std::string> nodes);

  const std::filesystem::path& run() const { return run_; }
  /// Of all turns and of all nodes that see it.
  const std::filesystem::path& directory() const { return directory_; }
  std::filesystem::path of_turn(const std::string& turn) const { return directory_ / turn; }
  /// What this rank's node writes.
  std::filesystem::path of_node(const std::string& turn) const { return of_turn(turn) / nodes_[rank_]; }

  int nodes() const { return static_cast<int>(ranks_.size()); }
  int node_of(int rank) const { return node_of_[static_cast<std::size_t>(rank)]; }
  /// By place on the node.
  const std::vector<int>& ranks_on(int node) const { return ranks_[static_cast<std::size_t>(node)]; }
  /// This rank's node and its place among the node's ranks. The first one does what a node does once.
  int own_node() const { return node_of(static_cast<int>(rank_)); }
  int own_place() const { return place_on_node(static_cast<int>(rank_)); }
  /// Who keeps the copy of a rank's shard: a rank of the next node, around the ring of nodes; -1 with one node.
  int keeper_of(int rank) const;

 private:
  int place_on_node(int rank) const;

  std::filesystem::path run_, directory_;
  std::size_t rank_;
  std::vector<std::string> nodes_;
  std::vector<int> node_of_;             ///< by rank
  std::vector<std::vector<int>> ranks_;  ///< by node, which are numbered by their first ranks
};

/// The turn that a run's directory names, where it names one.
std::optional<std::string> last_turn(const std::filesystem::path& run);
/// A new one; it is in the directory when this returns. For one rank.
std::string begin_turn(const std::filesystem::path& run);
/// From now on nothing that a node keeps is of use to this run. For one rank.
void forget_turn(const std::filesystem::path& run);

}  // namespace lexring
