#include "framework/backend/cuda/hopper/tensor_map.h"

#include "framework/backend/cuda/hopper/shared_tile.h"
#include "framework/base/error.h"

namespace lexring::cuda::hopper {

TensorMapShape tensor_map_shape(const RowsOfHeads& rows, int box_rows) {
  const auto bytes = [](std::int64_t elements) { return static_cast<std::uint64_t>(elements) * sizeof(bfloat16); };
  const auto count = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
  require(reinterpret_cast<std::uintptr_t>(rows.data) % 16 == 0,
          "a tensor map of rows whose first one is at no multiple of 16 bytes");
  for (const std::int64_t stride : {rows.row_stride, rows.head_stride})
    require(stride >= 0 && bytes(stride) % 16 == 0 && bytes(stride) < std::uint64_t{1} << 40,
            "a tensor map of rows that are {} elements apart: no multiple of 8 below 2^39", stride);
  require(rows.width > 0 && rows.width % panel_channels == 0, "a tensor map of heads of {} channels: no multiple of {}",
          rows.width, panel_channels);
  for (const std::int64_t size : {rows.rows, rows.heads})
    require(size > 0 && size <= std::int64_t{1} << 32, "a tensor map of {} rows of {} heads", rows.rows, rows.heads);
  require(box_rows > 0 && box_rows <= 256, "a tensor map of {} rows at once: from 1 to 256 can be", box_rows);
  return {.data = rows.data,
          .size = {count(rows.width), count(rows.rows), count(rows.heads)},
          .strides = {bytes(rows.row_stride), bytes(rows.head_stride)},
          .box = {panel_channels, static_cast<std::uint32_t>(box_rows), 1}};
}

}  // namespace lexring::cuda::hopper
