/// MPI behind the communicator. The only header for others that says so; it shows no MPI type.
#pragma once

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

namespace lexring {

struct SessionState;

/// The library that this program runs with, in its own words: "Open MPI v4.1.4, ...". Before MPI is started too.
std::string mpi_library();

/// Whether a launcher started this process as one of several. A batch script that calls us directly is not a launcher.
bool launched_by_mpi();

/// Starts MPI and ends it with its life; one per process, owned by main. A thread of its own moves messages while the
/// program computes (where the library lets threads in at all; elsewhere they move while somebody waits).
/// Throws Error when MPI cannot start, or when the launcher started singletons: every process its own rank 0 of 1
/// although SLURM_NTASKS, OMPI_COMM_WORLD_SIZE or PMI_SIZE says there are several.
class MpiSession {
 public:
  MpiSession(int argc, char** argv);
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession();

  std::shared_ptr<Communicator> world() const { return world_; }
  /// Ends every rank of the run at once, after an error on this one, which has been said: nothing more is. Does not
  /// return.
  [[noreturn]] void end_all(int exit_code);
  /// For parallel/comm.
  SessionState& state() { return *state_; }

 private:
  void end();

  std::unique_ptr<SessionState> state_;
  std::shared_ptr<Communicator> world_;
};

}  // namespace lexring
