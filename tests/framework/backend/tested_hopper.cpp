#include "framework/backend/cuda_backend.h"
#include "tests/framework/backend/tested_backend.h"

namespace lexring::testing {

TestedBackend tested_backend() {
  return {.name = "hopper",
          .make = [] { return make_cuda_backend(0, {.attention = CudaAttention::hopper}); },
          .rounds_bias = true};
}

}  // namespace lexring::testing
