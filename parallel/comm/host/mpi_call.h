/// MPI's C interface, and its errors as exceptions. With transfer.h, progress.h, side_channel.h and mpi_communicator.h
/// one of the headers that show MPI; none of them is seen outside parallel/comm.
#pragma once

#define OMPI_SKIP_MPICXX 1  // the C++ bindings that MPI 3 took out
#include <mpi.h>

#include "framework/base/error.h"

namespace lexring {

[[noreturn]] inline void mpi_failed(const char* call, int status, const char* file, int line) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail("{} failed: {} ({}:{})", call, text, file, line);
}

}  // namespace lexring

/// Throws Error with the call's text and the library's message unless the call succeeds.
#define LEXRING_MPI_CALL(call)                                                             \
  do {                                                                                     \
    const int status_ = (call);                                                            \
    if (status_ != MPI_SUCCESS) ::lexring::mpi_failed(#call, status_, __FILE__, __LINE__); \
  } while (false)
