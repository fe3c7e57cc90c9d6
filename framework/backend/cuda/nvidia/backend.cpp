#include "framework/backend/cuda/backend.h"
#include "framework/backend/cuda_backend.h"
#include "framework/device/cuda/runtime.h"

namespace lexring {

bool cuda_is_built_in() { return true; }
int cuda_device_count() { return visible_cuda_devices(); }

std::unique_ptr<Backend> make_cuda_backend(int device_index, F32Products f32) {
  auto runtime = std::make_unique<CudaRuntime>(device_index);
  CUstream_st* const stream = runtime->stream();
  const int multiprocessors = runtime->multiprocessors();
  return cuda::make_backend(std::move(runtime), stream, multiprocessors, f32);
}

}  // namespace lexring
