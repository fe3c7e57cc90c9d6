/// CUDA devices, as the rest of the program sees them: in a binary without CUDA there are none (no_cuda.cpp).
#pragma once

#include <memory>

#include "framework/backend/backend.h"

namespace lexring {

bool cuda_is_built_in();
/// Devices that this process sees; 0 where there is no driver. Never throws.
int cuda_device_count();
/// How exact products of f32 operands are: TF32 rounds them to 10 bits of mantissa. bf16 operands are never rounded;
/// sums are f32 either way.
enum class F32Products { full, tf32 };
/// cuBLASLt and our kernels. Throws UsageError where the device does not exist, is too old, or CUDA is not built in.
std::unique_ptr<Backend> make_cuda_backend(int device_index, F32Products f32 = F32Products::full);

}  // namespace lexring
