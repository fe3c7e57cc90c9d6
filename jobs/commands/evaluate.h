/// `lexring evaluate`: loss by length, pattern and position; tables, JSON, CSV and an HTML report; on every rank of
/// mpirun or srun.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jobs/config/options.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// 0, or exit_code::to_be_continued when a signal stopped it with parts to go on from; the same on every rank.
int evaluate_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world);

/// For who plans an evaluation before there is a checkpoint: throws what the command with these words (without
/// --checkpoint) would, of a checkpoint of this training; also where its series are of several rescalings of positions.
void check_evaluation(const std::vector<std::string>& words, const Options& training);

}  // namespace lexring
