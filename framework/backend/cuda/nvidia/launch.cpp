#include "framework/backend/cuda/nvidia/launch.h"

#include "framework/base/error.h"

namespace lexring::cuda {

cudaError_t allow_shared_memory(const void* kernel, std::size_t bytes) {
  if (bytes <= 48 << 10) return cudaSuccess;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) return status;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
}

cudaError_t started(const Stream& stream) {
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess && stream.checked ? cudaStreamSynchronize(stream.handle) : status;
}

void launch_failed(cudaError_t status, const void* kernel, Launch launch) {
  const char* name = "of unknown name";
#if CUDART_VERSION >= 12030
  if (cudaFuncGetName(&name, kernel) != cudaSuccess) name = "of unknown name";
#endif
  launch.kernel = name;
  fail("CUDA: {} ({}) in {}", cudaGetErrorString(status), cudaGetErrorName(status), describe(launch));
}

}  // namespace lexring::cuda
