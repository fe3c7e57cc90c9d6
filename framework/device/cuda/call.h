/// The one way to call the CUDA runtime: an error becomes an Error with the call, CUDA's own message and the place.
#pragma once

#include <cuda_runtime_api.h>

#include "framework/base/error.h"

#define LEXRING_CUDA_CALL(call)                                                                                      \
  do {                                                                                                               \
    const cudaError_t status_ = (call);                                                                              \
    if (status_ != cudaSuccess)                                                                                      \
      ::lexring::fail("CUDA: {} ({}) in {} at {}:{}", cudaGetErrorString(status_), cudaGetErrorName(status_), #call, \
                      __FILE__, __LINE__);                                                                           \
  } while (false)
