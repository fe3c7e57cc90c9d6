/// `lexring train`: pretrains; on every rank of mpirun or srun; resumes by itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

/// exit_code::finished when the last step is done, to_be_continued when steps are left (jobs/launch/exit_codes.h); the
/// same on every rank.
int train_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
