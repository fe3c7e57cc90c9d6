/// `lexring evaluate`: loss by length, pattern and position; tables, JSON, CSV and an HTML report; on every rank of mpirun or srun.
#pragma once

#include <string>
#include <vector>

#include "parallel/context.h"

namespace lexring {

int evaluate_command(const std::vector<std::string>& args, Context& context);

}  // namespace lexring
