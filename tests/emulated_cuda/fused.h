/// A fused attention kernel in plain loops, for tests of what is made of such a kernel.
#pragma once

#include <memory>

#include "framework/backend/cuda/fused_attention.h"

namespace lexring::cuda {

std::unique_ptr<FusedKernel> make_emulated_fused_kernel();

}  // namespace lexring::cuda
