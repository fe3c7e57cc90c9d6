/// `lexring train --dry-run`: whether a training would begin, and what it would take, without a model.
#pragma once

#include <string>

#include "datasets/dataset.h"
#include "jobs/config/options.h"
#include "jobs/launch/devices.h"
#include "jobs/launch/mesh_setup.h"
#include "jobs/training/traffic.h"
#include "parallel/mesh.h"

namespace lexring {

/// Bytes, by formula.
struct TrainingNeeds {
  double weights = 0;  ///< of a rank: values, gradients, moments, compute copies (parallel/data/data_parallel.h: Shard)
  double step = 0;     ///< of a rank, beside them at the peak (jobs/training/memory.h)
  double checkpoint = 0;  ///< one, of all ranks
  Recompute recompute = Recompute::none;
};
/// `shape` with train.recompute as it is, or, where it is to be chosen, for `free` bytes of a rank.
TrainingNeeds training_needs(const Options& options, StepShape shape, DeviceType device, double free);

/// The mesh of the launch; where one process is to speak for many (`lexring train --dry-run` without mpirun), of as
/// many ranks as the keys name, all on this node.
MeshChoice planned_mesh(const Options& options, Communicator& world);

/// Says what was checked. `options` are complete, the vocabulary included; `start` says where the run begins. 1 where
/// memory or disk are not enough, else 0. Collective.
int dry_run(const Options& options, const MeshChoice& mesh, const RunDevice& device, const Dataset& train,
            const std::string& start);

}  // namespace lexring
