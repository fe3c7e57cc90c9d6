#include "framework/backend/cuda_backend.h"

namespace lexring {

bool cuda_is_built_in() { return false; }
void load_cuda_kernels_at_start() {}
CudaDevices cuda_devices() { return {}; }
std::size_t free_cuda_memory(int /*device_index*/) { return 0; }
std::unique_ptr<Backend> make_cuda_backend(int /*device_index*/, const CudaSettings& /*settings*/) {
  throw UsageError(
      "this binary was built without CUDA; build it with -DLEXRING_CUDA=ON, or use --device cpu (or auto)");
}

}  // namespace lexring
