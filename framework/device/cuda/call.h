/// The one way to call the CUDA runtime: an error becomes an Error with the call, CUDA's own message and the place.
#pragma once

#include <cuda_runtime_api.h>

#include "framework/base/error.h"

namespace lexring {

/// What to do about an error that may be of a kernel started long before the call that found it.
inline const char* cuda_advice(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
      return "; a kernel started before did this: run again with --cuda.check_launches true, which names it";
    default:
      return "";
  }
}

}  // namespace lexring

#define LEXRING_CUDA_CALL(call)                                                                                        \
  do {                                                                                                                 \
    const cudaError_t status_ = (call);                                                                                \
    if (status_ != cudaSuccess)                                                                                        \
      ::lexring::fail("CUDA: {} ({}) in {} at {}:{}{}", cudaGetErrorString(status_), cudaGetErrorName(status_), #call, \
                      __FILE__, __LINE__, ::lexring::cuda_advice(status_));                                            \
  } while (false)
