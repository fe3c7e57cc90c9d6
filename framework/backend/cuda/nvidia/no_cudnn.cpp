#include "framework/backend/cuda/fused_attention.h"

namespace lexring::cuda {

std::unique_ptr<FusedKernel> make_cudnn_kernel() {
  throw UsageError(
      "cuda.attention = cudnn, but this binary was built without cuDNN; build it with -DLEXRING_CUDNN=ON, or choose "
      "cuda.attention = own");
}

}  // namespace lexring::cuda
