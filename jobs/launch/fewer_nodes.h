/// The mesh of a command for which fewer nodes are left than it was meant for.
///
/// The rule: tp and a given ulysses stay as they are, so they stay inside a node where they were. The batch stays, too,
/// and dp divides it. No rank is given more of a sequence than before as long as one replica still fits: dp may shrink
/// and cp stays, or, where ranks shared a sequence anyway, grows. Only where not one replica fits, cp shrinks, and dp
/// is 1. Of the meshes that this allows, it is the one on most nodes, and of these the one with most replicas.
#pragma once

#include <cstdint>

#include "jobs/config/mesh_keys.h"

namespace lexring {

struct NodeCounts {
  std::int64_t planned = 1;         ///< for which the command is meant
  std::int64_t left = 1;            ///< at most `planned`
  std::int64_t ranks_per_node = 1;  ///< the same on all of them
};

struct FewerNodes {
  std::int64_t nodes = 1;  ///< at most those that are left
  std::int64_t dp = 1, cp = 1;
  std::int64_t planned_dp = 1;
};

/// `batch`: sequences of a step over all ranks, which dp must divide; 0: any dp will do. Throws UsageError when the
/// keys do not fit the nodes they were meant for, and when no mesh fits those that are left.
FewerNodes fit_fewer_nodes(const MeshKeys& keys, std::int64_t batch, const NodeCounts& counts);

}  // namespace lexring
