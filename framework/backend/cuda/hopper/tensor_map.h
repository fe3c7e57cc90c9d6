/// Tensor maps: what Hopper's copy engine knows of rows of heads in global memory, of which it brings tiles into shared
/// memory as shared_tile.h has them. On a GPU the driver makes their 128 bytes (nvidia/tensor_map.cpp), in tests the
/// emulation does (tests/emulated_cuda/hopper.cpp).
#pragma once

#include <array>
#include <cstdint>

#include "framework/tensor/dtype.h"

namespace lexring::cuda::hopper {

/// Opaque. A kernel's parameter, `const __grid_constant__`: the engine reads it where it lies.
struct alignas(128) TensorMap {
  unsigned char bytes[128];
};

/// Row n of head h, `width` channels (64 or 128), begins at data + h * head_stride + n * row_stride (elements).
struct RowsOfHeads {
  const bfloat16* data;
  std::int64_t width, rows, heads, row_stride, head_stride;
};

/// As cuTensorMapEncodeTiled is told: channels, rows, heads. A copy brings 64 channels of `box_rows` rows of one head;
/// what lies outside the rows arrives as zeros, and counts among the bytes.
struct TensorMapShape {
  const bfloat16* data;
  std::array<std::uint64_t, 3> size;     ///< elements
  std::array<std::uint64_t, 2> strides;  ///< bytes, of all but the first
  std::array<std::uint32_t, 3> box;      ///< elements
};

/// Throws Error where the engine could not copy such rows: addresses and strides are multiples of 16 bytes, strides
/// below 2^40, sizes from 1 to 2^32.
TensorMapShape tensor_map_shape(const RowsOfHeads& rows, int box_rows);
TensorMap make_tensor_map(const TensorMapShape& shape);

}  // namespace lexring::cuda::hopper
