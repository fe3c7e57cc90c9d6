/// The device that a rank computes on.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "framework/backend/cpu_backend.h"
#include "jobs/config/mesh_keys.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// cpu: the CPU's kernels, of the highest level here unless `isa` says otherwise; reference: plain loops; cuda: a GPU;
/// auto: a GPU where there is one, else the CPU. Ranks of a node take its GPUs in turn, by their number on the node;
/// where they are more than the GPUs, several share one. Of `precision` only tf32 matters here. Throws UsageError where
/// a device is not built in, or not there.
std::unique_ptr<Backend> make_backend(const DeviceKeys& keys, PrecisionChoice precision = PrecisionChoice::fp32,
                                      int local_rank = 0);

/// What a run computes on, and the group of all ranks for tensors there.
struct RunDevice {
  std::unique_ptr<Backend> backend;  ///< outlives all that follows
  std::shared_ptr<Communicator> world;
};
/// The backend that --device names, on the GPU of this rank's place on its node, or on the CPU at the highest level
/// that all ranks have, so that replicas compute the same bits. `precision`: where it is automatic, it becomes what is
/// faster on this backend, and the same on every rank. Refuses ranks of other builds (same_program.h). Says on rank 0
/// what was chosen and how messages between GPUs travel. Collective.
RunDevice open_device(const DeviceKeys& keys, PrecisionChoice& precision, const std::shared_ptr<Communicator>& world);
/// Bytes that this rank may still take of the memory that its tensors live in: of what is free there an equal part for
/// each rank that takes from it. The least of all ranks. Collective.
double free_memory(const Runtime& runtime, Communicator& world);

}  // namespace lexring
