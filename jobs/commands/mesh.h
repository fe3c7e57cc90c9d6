/// `lexring mesh`: the mesh of a command on fewer nodes than it was meant for, for scripts.
#pragma once

#include <string>
#include <vector>

namespace lexring {

int mesh_command(const std::vector<std::string>& args);

}  // namespace lexring
