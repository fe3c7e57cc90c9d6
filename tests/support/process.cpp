#include "tests/support/process.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lexring {

ProcessResult run_process(const std::string& command, int limit) {
  const auto start = std::chrono::steady_clock::now();
  // The command goes through a file's name on bash's standard input, so that it needs no quoting.
  std::array<char, 32> name{"/tmp/lexring_commandXXXXXX"};
  const int descriptor = mkstemp(name.data());
  if (descriptor < 0) throw std::runtime_error("no temporary file can be made in /tmp");
  close(descriptor);
  std::ofstream(name.data()) << "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}\n" << command << "\n";
  std::FILE* pipe = popen(fmt::format("timeout -k 5 {} bash {} 2>&1", limit, name.data()).c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("no process can be started for: " + command);
  ProcessResult result;
  std::array<char, 4096> buffer;
  for (std::size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    result.output.append(buffer.data(), n);
  const int status = pclose(pipe);
  unlink(name.data());
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

std::string mpirun(int ranks) {
  const std::string root = geteuid() == 0 ? "--allow-run-as-root " : "";
  return fmt::format("mpirun {}--oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -n {} ", root, ranks);
}

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

}  // namespace lexring
