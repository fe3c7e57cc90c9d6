/// What commands begin with: an answer to --help, and the device and mesh on which they compute.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jobs/config/options.h"
#include "jobs/launch/devices.h"
#include "jobs/launch/mesh_setup.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// Whether the arguments ask for help, which rank 0 has printed then.
bool answers_help(const std::vector<std::string>& args, const std::string& help, const Communicator& world);

/// What a command computes on.
struct CommandPlace {
  RunDevice device;
  RunMesh mesh;
};
/// The device, and the mesh for steps as a run's keys say. Precision "auto" is chosen in `options`. Collective.
CommandPlace open_place(Options& options, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
