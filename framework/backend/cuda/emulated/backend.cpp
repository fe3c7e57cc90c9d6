#include "framework/backend/cuda/emulated/backend.h"

#include "framework/backend/cuda/backend.h"

namespace lexring {

std::unique_ptr<Backend> make_emulated_cuda_backend() { return cuda::make_backend(make_cpu_runtime(), nullptr, 2); }

}  // namespace lexring
