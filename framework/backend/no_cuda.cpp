#include "framework/backend/cuda_backend.h"

namespace lexring {

bool cuda_is_built_in() { return false; }
int cuda_device_count() { return 0; }
std::unique_ptr<Backend> make_cuda_backend(int /*device_index*/, F32Products /*f32*/) {
  throw UsageError(
      "this binary was built without CUDA; build it with -DLEXRING_CUDA=ON, or use --device cpu (or auto)");
}

}  // namespace lexring
