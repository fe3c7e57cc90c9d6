/// The CUDA backend without a GPU, for tests: its kernels on the host, its matrix products in plain loops.
#pragma once

#include <memory>

#include "framework/backend/backend.h"
#include "framework/backend/cuda_backend.h"

namespace lexring {

/// In memory that the host can touch whenever `cuda::emulated::Inside` lives.
std::unique_ptr<Backend> make_emulated_cuda_backend(std::unique_ptr<Runtime> runtime = make_cpu_runtime(),
                                                    const CudaSettings& settings = {});

}  // namespace lexring
