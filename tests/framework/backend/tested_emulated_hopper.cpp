#include "tests/emulated_cuda/backend.h"
#include "tests/framework/backend/tested_backend.h"

namespace lexring::testing {

TestedBackend tested_backend() {
  return {.name = "emulated_hopper",
          .make = [] { return make_emulated_cuda_backend(make_cpu_runtime(), {.attention = CudaAttention::hopper}); },
          .slow = true,
          .rounds_bias = true,
          .own_f32 = false};
}

}  // namespace lexring::testing
