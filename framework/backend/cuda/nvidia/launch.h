/// What surrounds the start of a kernel on a GPU, the same for all of them.
#pragma once

#include <cuda_runtime_api.h>

#include "framework/backend/cuda/launch.h"

namespace lexring::cuda {

/// Lets `kernel` have so much shared memory, and as many of its blocks share a multiprocessor as have room there.
cudaError_t allow_shared_memory(const void* kernel, std::size_t bytes);
/// The error of the start; of the kernel too where the stream is checked.
cudaError_t started(const Stream& stream);
/// Throws the Error. `launch.kernel` is found here.
[[noreturn]] void launch_failed(cudaError_t status, const void* kernel, Launch launch);

}  // namespace lexring::cuda
