/// Kernels, matrix products and a runtime put together: on a GPU, or emulated in tests.
#pragma once

#include <memory>

#include "framework/backend/backend.h"
#include "framework/backend/cuda_backend.h"

struct CUstream_st;

namespace lexring::cuda {

class FusedKernel;

/// `stream` is the runtime's (nullptr where kernels are emulated). `fused`: attention that it can compute is its;
/// nullptr: none is.
std::unique_ptr<Backend> make_backend(std::unique_ptr<Runtime> runtime, CUstream_st* stream, int multiprocessors,
                                      const CudaSettings& settings, std::unique_ptr<FusedKernel> fused);

}  // namespace lexring::cuda
