#include "parallel/comm/open_mpi.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "framework/base/console.h"

namespace lexring {
namespace {

bool starting = false;  // atexit passes nothing

/// Open MPI has said its own, of which this is the usual reason.
void explain_failed_start() {
  if (!starting) return;
  const char* const chosen = std::getenv("TMPDIR");
  const std::filesystem::path directory = chosen != nullptr ? chosen : "/tmp";
  std::error_code error;
  const auto space = std::filesystem::space(directory, error);
  std::string reason;
  if (error)
    reason = fmt::format(": its directory for temporary files, {}: {}; set TMPDIR to another", directory.string(), error.message());
  else if (space.available < (1 << 20))
    reason = fmt::format(": no space is left for temporary files in {}; free some, or set TMPDIR to another directory", directory.string());
  say("lexring: MPI could not start, and ended this process{}\n", reason.empty() ? "; what it says itself is all that is known" : reason);
}

int show_nothing(const char*, const char*, bool, ...) { return 0; }

}  // namespace

void prepare_open_mpi() {
  // Open MPI's TCP asks for a long message and gets it in one piece, behind which the other direction's requests wait: half the rate of a
  // link that is used both ways. In small pieces both ways are full.
  setenv("OMPI_MCA_btl_tcp_flags", "send", 0);
  // A rank that waits inside MPI leaves its core to whoever computes.
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  // A process that no launcher started needs no daemon beside it, which needs ssh and room for temporary files to start.
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
  starting = true;
  std::atexit(explain_failed_start);
}

void open_mpi_started() { starting = false; }

void quiet_open_mpi_abort() {
  // The library's own hook for who shows its messages; absent in other libraries.
  using Show = int (*)(const char*, const char*, bool, ...);
  if (auto* const hook = static_cast<Show*>(dlsym(RTLD_DEFAULT, "opal_show_help"))) *hook = show_nothing;
}

}  // namespace lexring
