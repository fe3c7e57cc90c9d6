/// NCCL's C interface, and its errors as exceptions.
#pragma once

#include <nccl.h>

#include "framework/base/error.h"

namespace lexring {

/// `group` may be null: then NCCL tells its last error of any.
[[noreturn]] inline void nccl_failed(const char* call, ncclResult_t status, ncclComm_t group, const char* file,
                                     int line) {
  const char* const more = ncclGetLastError(group);
  fail("NCCL: {} in {} ({}:{}){}{}", ncclGetErrorString(status), call, file, line,
       more != nullptr && *more != '\0' ? ": " : "", more != nullptr ? more : "");
}

}  // namespace lexring

/// Throws Error with the call's text and the library's message unless the call succeeds, or goes on in the background
/// (ncclInProgress).
#define LEXRING_NCCL_CALL(call)                                            \
  do {                                                                     \
    const ncclResult_t status_ = (call);                                   \
    if (status_ != ncclSuccess && status_ != ncclInProgress)               \
      ::lexring::nccl_failed(#call, status_, nullptr, __FILE__, __LINE__); \
  } while (false)
