/// Which node each process runs on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

/// The name of the node that this process runs on.
std::string node_name();
/// Slurm's number of the job that this process is of; empty: of none.
std::string slurm_job();
/// A text of every rank, by rank. Collective.
std::vector<std::string> gather_texts(Communicator& world, std::string_view own);
/// The name of every rank's node, by rank. Collective.
std::vector<std::string> gather_nodes(Communicator& world);

}  // namespace lexring
