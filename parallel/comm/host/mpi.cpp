#include "parallel/comm/host/mpi.h"

#include <cstdio>
#include <cstdlib>

#include <unistd.h>

#include "parallel/comm/host/mpi_communicator.h"
#include "parallel/comm/host/open_mpi.h"
#include "parallel/comm/host/session.h"

namespace lexring {
namespace {

/// How many processes the launcher meant to start, by the nearest launcher that says so: mpirun inside a Slurm job may
/// start fewer than it has tasks.
int launched_processes() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    if (const char* text = std::getenv(variable)) return std::atoi(text);
  }
  return 1;
}

}  // namespace

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  LEXRING_MPI_CALL(MPI_Get_library_version(text, &length));
  const std::string words(text);
  return words.substr(0, words.find('\n'));
}

bool launched_by_mpi() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(variable) != nullptr) return true;
  }
  return false;
}

MpiSession::MpiSession(int argc, char** argv) : state_(std::make_unique<SessionState>()) {
  prepare_open_mpi(launched_by_mpi());
  int provided = MPI_THREAD_SINGLE;
  LEXRING_MPI_CALL(MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided));
  LEXRING_MPI_CALL(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  // One thread at a time calls MPI, except for MPI_Abort; so a library that lets threads in one by one is enough.
  const bool threads = provided >= MPI_THREAD_SERIALIZED;
  state_->progress = std::make_shared<Progress>(threads ? Progress::Driver::thread : Progress::Driver::caller);
  state_->progress->alone([&] {
    MPI_Comm all = MPI_COMM_NULL;
    LEXRING_MPI_CALL(MPI_Comm_dup(MPI_COMM_WORLD, &all));
    LEXRING_MPI_CALL(MPI_Comm_dup(MPI_COMM_WORLD, &state_->side));
    LEXRING_MPI_CALL(MPI_Comm_set_errhandler(state_->side, MPI_ERRORS_RETURN));
    state_->threads = threads;
    world_ = make_mpi_communicator("world", all, nullptr, state_->progress);
  });
  const int launched = launched_processes();
  if (world_->size() == 1 && launched > 1) {
    end();
    fail(
        "{} processes were started, but MPI sees each of them alone: the launcher and the MPI library do not speak the "
        "same protocol. Start with `mpirun` of the MPI that lexring was built with, or with `srun --mpi=pmix` (see "
        "`srun --mpi=list`); for one process inside a Slurm job use `srun -n 1` or `mpirun -n 1`",
        launched);
  }
}

MpiSession::~MpiSession() { end(); }

void MpiSession::end() {
  world_.reset();
  state_->progress->stop();
  MPI_Comm_free(&state_->side);
  MPI_Finalize();
}

void MpiSession::end_all(int exit_code) {
  while (state_->ending.exchange(true)) pause();  // another thread is at it; MPI_Abort cannot be called twice
  std::fflush(nullptr);
  quiet_open_mpi_abort();
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  fail("MPI_Abort returned");
}

}  // namespace lexring
