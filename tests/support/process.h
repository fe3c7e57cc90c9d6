/// Runs commands as a person would, and keeps what they print.
#pragma once

#include <string>

namespace lexring {

struct ProcessResult {
  int exit_code = 0;
  std::string output;  ///< standard output and error together
  double seconds = 0;
};

/// Through the shell, ended after `limit` seconds (exit code 124), which are for what hangs: on a machine with seven
/// times the work that it has cores for, seconds have become two minutes. One OpenMP thread unless the command says
/// otherwise.
ProcessResult run_process(const std::string& command, int limit = 300);

/// "mpirun -n RANKS ..." for a test: any number of ranks on any machine, as root too.
std::string mpirun(int ranks);

/// How often `part` stands in `text`.
int occurrences(const std::string& text, const std::string& part);

}  // namespace lexring
