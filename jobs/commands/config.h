/// `lexring config`: the configuration that files and keys make, for people and scripts.
#pragma once

#include <string>
#include <vector>

namespace lexring {

int config_command(const std::vector<std::string>& args);

}  // namespace lexring
