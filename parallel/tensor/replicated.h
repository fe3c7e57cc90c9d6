/// Gradients of parameters that several ranks of a tensor-parallel group hold: norm weights, biases of row-parallel
/// layers, learned positions, key and value heads where there are fewer of them than ranks.
///
/// Each holder sees only a part of what depends on its copy (its rows, its query heads), so the parts are summed. It
/// happens once per step, after the last backward pass: gradients are sums over micro-batches by then, and it commutes
/// with sums over replicas.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/nn/parameter.h"
#include "parallel/comm/communicator.h"

namespace lexring {

class ReplicatedGradients {
 public:
  /// For parameters cut over `group` (part_of), which must outlive it. Collective: makes a group of the ranks that hold
  /// the same part.
  ReplicatedGradients(Communicator& group, const std::vector<Parameter>& parameters);

  /// Gradients of those of `parameters` that have copies become their sum over the holders, the same bits on each. One
  /// all-reduce of one flat buffer per number of copies, which are two at most. `parameters`: all, or some at a time,
  /// the same on all ranks of the group.
  void sum(const std::vector<Parameter>& parameters) const;

 private:
  Communicator* group_;
  std::map<int, std::unique_ptr<Communicator>> holders_;  ///< by number of copies, where these are not the whole group
};

}  // namespace lexring
