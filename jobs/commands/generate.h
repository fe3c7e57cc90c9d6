/// `lexring generate`: continues a prompt from a checkpoint, token by token, with the key and value cache.
#pragma once

#include <string>
#include <vector>

namespace lexring {

/// Runs on one process. Writes the prompt and its continuation to standard output as they come.
int generate_command(const std::vector<std::string>& args);

}  // namespace lexring
