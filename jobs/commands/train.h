/// `lexring train`: pretrains; on every rank of mpirun or srun; resumes by itself.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

/// The exit code of a run that was stopped by a signal, with a checkpoint from which the same command goes on:
/// EX_TEMPFAIL of sysexits.h.
constexpr int to_be_continued = 75;

/// 0 when the last step is done, to_be_continued when steps are left; the same on every rank.
int train_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

}  // namespace lexring
