/// `lexring evaluate --task`: right answers to texts of a task.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "jobs/commands/evaluate_arguments.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// The command of these words, whose keys are `args`; its exit code. On every rank.
int evaluate_task(const EvaluateArguments& args, const std::vector<std::string>& words,
                  const std::shared_ptr<Communicator>& world);

}  // namespace lexring
