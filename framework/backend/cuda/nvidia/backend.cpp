#include "framework/backend/cuda/backend.h"

#include <cuda_runtime_api.h>

#include <cstdlib>

#include "framework/backend/cuda/fused_attention.h"
#include "framework/backend/cuda_backend.h"
#include "framework/device/cuda/call.h"
#include "framework/device/cuda/runtime.h"

namespace lexring {
namespace {

void require_hopper(int device_index) {
  cudaDeviceProp device{};
  LEXRING_CUDA_CALL(cudaGetDeviceProperties(&device, device_index));
  require_usage(
      device.major == 9 && device.minor == 0,
      "cuda.attention = hopper needs an H100 or H200 (compute capability 9.0), but GPU {} is {} ({}.{}); choose "
      "cuda.attention = own",
      device_index, device.name, device.major, device.minor);
}

}  // namespace

bool cuda_is_built_in() { return true; }
void load_cuda_kernels_at_start() { setenv("CUDA_MODULE_LOADING", "EAGER", 0); }
std::size_t free_cuda_memory(int device_index) { return free_device_memory(device_index); }

CudaDevices cuda_devices() {
  CudaDevices devices;
  devices.count = visible_cuda_devices(&devices.why_none);
  return devices;
}

std::unique_ptr<Backend> make_cuda_backend(int device_index, const CudaSettings& settings) {
  auto runtime = std::make_unique<CudaRuntime>(device_index);
  if (settings.attention == CudaAttention::hopper) require_hopper(device_index);
  CUstream_st* const stream = runtime->stream();
  const int multiprocessors = runtime->multiprocessors();
  return cuda::make_backend(std::move(runtime), stream, multiprocessors, settings,
                            settings.attention == CudaAttention::cudnn ? cuda::make_cudnn_kernel() : nullptr);
}

}  // namespace lexring
