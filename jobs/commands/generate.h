/// `lexring generate`: continues a prompt from a checkpoint: reads it chunk by chunk and goes on token by token, with
/// the key and value cache.
///
/// The pattern and the scaling of rotary angles may be others than in training (model_use.h). What cannot work is
/// refused before the first token is written.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

/// One process, or several that share the layers' matrices (mesh.tp). Rank 0 writes the prompt and its continuation to
/// standard output as they come.
int generate_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
