/// `lexring prepare`: text, JSONL and JSONL.zst -> tokens in HDF5.
#pragma once

#include <string>
#include <vector>

namespace lexring {

/// Runs on one process. 0: the dataset is whole under its final name. Throws Error (UsageError for a command line)
/// otherwise, with nothing left behind.
int prepare_command(const std::vector<std::string>& args);

}  // namespace lexring
