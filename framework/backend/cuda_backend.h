/// CUDA devices, as the rest of the program sees them: in a binary without CUDA there are none (no_cuda.cpp).
#pragma once

#include <memory>
#include <string>

#include "framework/backend/backend.h"

namespace lexring {

bool cuda_is_built_in();
/// Kernels are loaded when CUDA starts, not each at its first use, which waits for the device and may do so while a
/// message waits for this process. Before any thread is started: unless the user has set it, an environment variable of
/// CUDA's says so (CUDA_MODULE_LOADING).
void load_cuda_kernels_at_start();
struct CudaDevices {
  int count = 0;
  std::string why_none;  ///< CUDA's own words where there are none; "" where CUDA is not built in
};
/// Those that this process sees. Never throws.
CudaDevices cuda_devices();
/// Bytes of a device's memory that nobody holds, of those that this process sees.
std::size_t free_cuda_memory(int device_index);
/// How exact products of f32 operands are: TF32 rounds them to 10 bits of mantissa. bf16 operands are never rounded;
/// sums are f32 either way.
enum class F32Products { full, tf32 };
/// Whose kernels compute attention: ours; or cuDNN's, or ours for Hopper alone (forward), where there is one for a
/// call, and ours for the rest.
enum class CudaAttention { own, cudnn, hopper };
struct CudaSettings {
  F32Products f32 = F32Products::full;
  CudaAttention attention = CudaAttention::own;
  bool check_launches = false;  ///< wait for every kernel, so that an error names the kernel that made it
};
/// cuBLASLt, our kernels and cuDNN's. Throws UsageError where the device does not exist, is too old, CUDA is not built
/// in, cuDNN is asked for and is not there, or kernels for Hopper are and the device is none.
std::unique_ptr<Backend> make_cuda_backend(int device_index, const CudaSettings& settings = {});

}  // namespace lexring
