/// `lexring study`: trains and evaluates every method of a study file, with every seed, and writes one table and one
/// report.
#pragma once

#include <string>
#include <vector>

namespace lexring {

/// 0 when everything is done, to_be_continued (jobs/launch/exit_codes.h) when it was told to stop, 1 where a job
/// failed.
int study_command(const std::vector<std::string>& args);

}  // namespace lexring
