/// What is in a checkpoint, as text for a terminal.
#pragma once

#include <filesystem>
#include <string>

namespace lexring {

/// Step, tokenizer, configuration, tensors with dtype, shape and number of pieces, files with sizes. With `verify`
/// every file is hashed. Throws Error, naming the file, when the checkpoint is not there or not whole.
std::string describe_checkpoint(const std::filesystem::path& path, bool verify);

}  // namespace lexring
