/// `lexring train`: pretrains; on every rank of mpirun or srun; resumes by itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

int train_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
