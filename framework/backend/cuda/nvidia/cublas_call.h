/// The one way to call cuBLASLt: an error becomes an Error with the call, cuBLAS's own message and the place.
#pragma once

#include <cublasLt.h>

#include "framework/base/error.h"

#define LEXRING_CUBLAS_CALL(call)                                                         \
  do {                                                                                    \
    const cublasStatus_t status_ = (call);                                                \
    if (status_ != CUBLAS_STATUS_SUCCESS)                                                 \
      ::lexring::fail("cuBLAS: {} ({}) in {} at {}:{}", cublasLtGetStatusString(status_), \
                      cublasLtGetStatusName(status_), #call, __FILE__, __LINE__);         \
  } while (false)
