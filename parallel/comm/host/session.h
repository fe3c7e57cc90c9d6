/// What an MpiSession keeps for the rooms of parallel/comm.
#pragma once

#include <atomic>
#include <memory>

#include "parallel/comm/host/mpi_call.h"
#include "parallel/comm/host/progress.h"

namespace lexring {

struct SessionState {
  std::shared_ptr<Progress> progress;
  std::atomic<bool> ending = false;  ///< MPI_Abort has been called
  bool threads = false;              ///< whether threads of our own may call MPI
  MPI_Comm side = MPI_COMM_NULL;     ///< all ranks, for what watchdogs say to each other
};

}  // namespace lexring
