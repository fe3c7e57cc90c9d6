/// From keys and processes to the mesh of a run, in one place for every command: what cannot work is refused within
/// seconds, with the same message on every rank and what would work.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/backend/backend.h"
#include "jobs/keys.h"
#include "models/config.h"
#include "parallel/context.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

struct MeshKeys {
  std::int64_t dp = 0;  ///< 0: what is left
  std::int64_t cp = 1, tp = 1;
  std::int64_t ulysses = 0;  ///< 0: chosen from the shape
  bool tp_across_nodes = false;
};
std::vector<Key> mesh_keys(MeshKeys& mesh);

struct SequenceKeys {
  std::string partition = "auto";  ///< auto zigzag contiguous striped
  std::string exchange = "auto";   ///< auto ring halo
};
std::vector<Key> sequence_keys(SequenceKeys& sequence);

/// Sequences that a replica computes at a time and their length: what the choice between exchanges rests on.
struct WorkShape {
  std::int64_t sequences = 1;
  std::int64_t length = 1;
  std::int64_t bytes = 4;  ///< of one element in working precision
};

/// What "auto" means for keys that are given.
PartitionKind partition_named(const std::string& name);
Exchange exchange_named(const std::string& name);

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

/// What computes: a device, and on a CPU the level of vector instructions.
struct DeviceKeys {
  std::string name = "auto";  ///< auto reference cpu cuda
  std::string isa = "auto";   ///< auto, or a CpuLevel
};
std::vector<Key> device_keys(DeviceKeys& device);

/// What a run computes on, and the group of all ranks for tensors there.
struct RunDevice {
  std::unique_ptr<Backend> backend;  ///< outlives all that follows
  std::shared_ptr<Communicator> world;
};
/// The backend that --device names, on the GPU of this rank's place on its node, or on the CPU at the highest level
/// that all ranks have, so that replicas compute the same bits. `precision`: where it is "auto", it becomes what is
/// faster on this backend, and the same on every rank. Says on rank 0 what was chosen and how messages between GPUs
/// travel. Collective.
RunDevice open_device(const DeviceKeys& keys, std::string& precision, const std::shared_ptr<Communicator>& world);

/// Throws UsageError when `processes` is not the number of tasks that Slurm started or reserved (0: it says nothing).
void check_launch(int processes, int slurm_tasks);

}  // namespace lexring
