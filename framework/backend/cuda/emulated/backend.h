/// The CUDA backend without a GPU, for tests: its kernels on the host, its matrix products in plain loops, the CPU's memory.
#pragma once

#include <memory>

#include "framework/backend/backend.h"

namespace lexring {

std::unique_ptr<Backend> make_emulated_cuda_backend();

}  // namespace lexring
