#include "jobs/launch/wait_policy.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include <sys/auxv.h>
#include <sys/time.h>
#include <unistd.h>

namespace lexring {
namespace {

/// A profiler's clock would go on in the new program before the profiler has its handler there, and end it. It sets
/// both again.
void stop_clocks_with_handlers() {
  for (const auto& [clock, signal] :
       {std::pair(ITIMER_REAL, SIGALRM), std::pair(ITIMER_VIRTUAL, SIGVTALRM), std::pair(ITIMER_PROF, SIGPROF)}) {
    struct sigaction action {};
    sigaction(signal, nullptr, &action);
    const itimerval none{};
    if ((action.sa_flags & SA_SIGINFO) != 0 || action.sa_handler != SIG_DFL) setitimer(clock, &none, nullptr);
  }
}

}  // namespace

void let_waiting_threads_sleep(char** arguments) {
  if (getauxval(AT_BASE) == 0) return;  // started by way of the dynamic loader, which is what /proc/self/exe is then
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "1000", 1);
  stop_clocks_with_handlers();
  std::error_code error;
  const auto program =
      std::filesystem::read_symlink("/proc/self/exe", error);  // by its name, which `ps` and `top` show
  execv(program.c_str(), arguments);                           // comes back only where it cannot
}

}  // namespace lexring
