#include "jobs/launch/command_start.h"

#include <utility>

#include "framework/base/console.h"

namespace lexring {

bool answers_help(const std::vector<std::string>& args, const std::string& help, const Communicator& world) {
  const bool asked = asks_help(args);
  if (asked && world.rank() == 0) print_result("{}", help);
  return asked;
}

CommandPlace open_place(Options& options, const std::shared_ptr<Communicator>& world) {
  RunDevice device = open_device(options.device, options.train.precision, world);
  RunMesh mesh =
      make_run_mesh(device.world, options.mesh, options.sequence, options.model, work_shape(options, world->size()));
  return {std::move(device), std::move(mesh)};
}

}  // namespace lexring
