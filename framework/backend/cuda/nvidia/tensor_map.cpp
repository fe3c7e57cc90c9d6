#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "framework/backend/cuda/hopper/tensor_map.h"
#include "framework/base/error.h"

namespace lexring::cuda::hopper {
namespace {

/// The driver's function, by way of the runtime: nothing is linked with the driver, which machines without a GPU lack.
auto encode_function() {
  void* address = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000, cudaEnableDefault, &found);
  require(status == cudaSuccess && found == cudaDriverEntryPointSuccess,
          "the driver has no cuTensorMapEncodeTiled ({}); cuda.attention = hopper needs the driver of CUDA 12 or newer",
          cudaGetErrorString(status));
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(address);
}

}  // namespace

TensorMap make_tensor_map(const TensorMapShape& shape) {
  static const auto encode = encode_function();
  const cuuint32_t every_element[3] = {1, 1, 1};
  CUtensorMap encoded;
  const CUresult status =
      encode(&encoded, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<bfloat16*>(shape.data), shape.size.data(),
             shape.strides.data(), shape.box.data(), every_element, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(status == CUDA_SUCCESS,
          "cuTensorMapEncodeTiled refused (status {}) {} x {} x {} elements, {} and {} bytes apart",
          static_cast<int>(status), shape.size[0], shape.size[1], shape.size[2], shape.strides[0], shape.strides[1]);
  TensorMap map;
  static_assert(sizeof(map) == sizeof(encoded) && alignof(TensorMap) >= alignof(CUtensorMap));
  std::memcpy(&map, &encoded, sizeof(map));
  return map;
}

}  // namespace lexring::cuda::hopper
