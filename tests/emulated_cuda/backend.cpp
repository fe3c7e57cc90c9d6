#include "tests/emulated_cuda/backend.h"

#include "framework/backend/cuda/backend.h"
#include "tests/emulated_cuda/fused.h"

namespace lexring {

std::unique_ptr<Backend> make_emulated_cuda_backend(std::unique_ptr<Runtime> runtime, const CudaSettings& settings) {
  return cuda::make_backend(std::move(runtime), nullptr, 2, settings,
                            settings.attention == CudaAttention::cudnn ? cuda::make_emulated_fused_kernel() : nullptr);
}

}  // namespace lexring
