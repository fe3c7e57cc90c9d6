/// `lexring inspect PATH`: what is in a data set or a checkpoint; with --verify, whether it is whole; with --export, a
/// checkpoint as one file.
#pragma once

#include <string>
#include <vector>

namespace lexring {

/// Runs on one process. 0: described (and verified); throws Error for what is neither, or is damaged.
int inspect_command(const std::vector<std::string>& args);

}  // namespace lexring
