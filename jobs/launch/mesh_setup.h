/// From keys and processes to the mesh of a run, in one place for every command: what cannot work is refused within
/// seconds, with the same message on every rank and what would work.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jobs/config/mesh_keys.h"
#include "models/config.h"
#include "parallel/context.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

struct MeshChoice {
  Mesh mesh;
  PartitionKind partition;  ///< of this shape: never automatic
  Exchange exchange;        ///< likewise
  std::string description;  ///< "dp 1 x cp 4 x tp 1; ring: a hop takes ...": the first lines of a run
};

/// The mesh over ranks of which `nodes[r]` names the node of rank r. Throws UsageError when sizes do not multiply to
/// the ranks, when heads can be neither split nor replicated for tp or ulysses, when tp leaves a node without leave, or
/// when the exchange does not serve the pattern.
MeshChoice choose_mesh(const MeshKeys& keys, const SequenceKeys& sequence, const ModelConfig& model,
                       const WorkShape& shape, const std::vector<std::string>& nodes);

struct RunMesh {
  Context context;
  PartitionKind partition;
  Exchange exchange;
  std::string description;
};
/// choose_mesh for the processes of `world`, and the mesh's communicators. Collective.
RunMesh make_run_mesh(const std::shared_ptr<Communicator>& world, const MeshKeys& keys, const SequenceKeys& sequence,
                      const ModelConfig& model, const WorkShape& shape);

/// Throws UsageError when `processes` is not the number of tasks that Slurm started or reserved (0: it says nothing).
void check_launch(int processes, int slurm_tasks);

}  // namespace lexring
