/// The group of all ranks for tensors of a device, and how its messages travel.
///
/// NCCL where it was built in and every rank has a GPU of its own (it takes no two ranks on one), else MPI through host
/// memory; nothing changes for tensors of the host. Groups split from it are of the same kind.
#pragma once

#include <memory>
#include <string>

#include "framework/device/runtime.h"
#include "parallel/comm/communicator.h"

namespace lexring {

struct DeviceWorld {
  std::shared_ptr<Communicator> world;
  std::string description;  ///< for the log of rank 0: "messages between GPUs: NCCL 2.28.9"; empty: nothing to say
};

/// `world` is MPI's, or of one process; it stays usable. `runtime` outlives what is returned. Collective.
DeviceWorld make_device_world(const std::shared_ptr<Communicator>& world, Runtime& runtime);

/// Ranks that share a GPU, from every rank's name of its own: "ranks 0 and 1 share a GPU"; empty where none do.
std::string shared_gpus(const std::vector<std::string>& names);

}  // namespace lexring
