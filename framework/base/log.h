/// Lines for people on standard error: news from rank 0, warnings from any rank with the rank in front. Numbers for machines are metrics,
/// not logs.
#pragma once

#include <string_view>

namespace lexring {

/// Called once by main, as soon as the rank is known; before it a process logs as rank 0 of 1. Not thread safe; the functions below are.
void start_log(int rank, int ranks);

/// Printed by rank 0 only. `message` is a whole line without its end: log_info(fmt::format(...)).
void log_info(std::string_view message);
/// Printed by every rank: something a person should look at, though the run goes on.
void log_warning(std::string_view message);

}  // namespace lexring
