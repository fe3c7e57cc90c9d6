/// `lexring evaluate`: loss by length, pattern and position; tables, JSON, CSV and an HTML report; on every rank of
/// mpirun or srun.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

int evaluate_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
