#include "parallel/comm/host/open_mpi.h"

#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <thread>

#include "framework/base/error.h"

namespace lexring {
namespace {

/// Open MPI would end the process in the middle of MPI_Init, with fifty lines that do not name the reason.
void require_room_for_files() {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (rank == nullptr) return;  // started alone, it needs none
  const char* const chosen = std::getenv("TMPDIR");
  const std::filesystem::path directory = chosen != nullptr ? chosen : "/tmp";
  std::error_code error;
  const auto space = std::filesystem::space(directory, error);
  if (error || space.capacity == 0 || space.available >= (64 << 10)) return;
  if (std::atoi(rank) > 0)
    std::this_thread::sleep_for(std::chrono::seconds(1));  // the first ends the others before they repeat it
  fail("no space is left in {}, where MPI has its temporary files; free some, or set TMPDIR to another directory",
       directory.string());
}

int show_nothing(const char*, const char*, bool, ...) { return 0; }

}  // namespace

void prepare_open_mpi(bool launched) {
  // Open MPI's TCP asks for a long message and gets it in one piece, behind which the other direction's requests wait:
  // half the rate of a link that is used both ways. In small pieces both ways are full.
  setenv("OMPI_MCA_btl_tcp_flags", "send", 0);
  // A rank that waits inside MPI leaves its core to whoever computes.
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
  // A process that no launcher started needs no daemon beside it, which needs ssh and room for temporary files to
  // start.
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
  // Nor temporary files: all such processes would have them in the same directory, which one removes while another
  // starts. Seen on a busy machine: MPI_Init that fails, once in 300 starts.
  if (!launched) setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
  require_room_for_files();
}

void quiet_open_mpi_abort() {
  // The library's own hook for who shows its messages; absent in other libraries.
  using Show = int (*)(const char*, const char*, bool, ...);
  if (auto* const hook = static_cast<Show*>(dlsym(RTLD_DEFAULT, "opal_show_help"))) *hook = show_nothing;
}

}  // namespace lexring
