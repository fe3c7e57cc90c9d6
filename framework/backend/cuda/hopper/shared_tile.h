/// A tile in shared memory as Hopper's tensor cores and its copy engine know it, and the 64 bits that tell the tensor
/// cores where it is. Arithmetic only, for host and device.
///
/// A tile is `rows` rows of 64 or 128 channels of bf16: one or two panels of 64 channels, one after the other. A row of
/// a panel has 128 bytes; its 8 chunks of 16 bytes are permuted by XOR with the row's last three bits ("128-byte
/// swizzle", PTX ISA 9.7.15.5.1), so that neither 8 rows at one chunk nor 8 chunks of a row meet in a bank. Tiles begin
/// at multiples of 1,024 bytes, where the pattern does.
///
/// Matrix descriptors: PTX ISA 9.7.15.5.2. Two readings of a tile are needed: rows as rows of the operand, channels
/// summed over ("K-major": queries and keys); and channels as its rows, rows summed over ("MN-major", transposed:
/// values).
#pragma once

#include <cstdint>

namespace lexring::cuda::hopper {

inline constexpr int panel_channels = 64;
inline constexpr int panel_row_bytes = 128;
inline constexpr int swizzle_bytes = 1024;  ///< 8 rows of a panel: the pattern, and what tiles are aligned to
inline constexpr int step_channels = 16;    ///< that one wgmma sums over; rows, where the tile is transposed

constexpr int panel_bytes(int rows) { return rows * panel_row_bytes; }

/// Byte of a tile at which an element begins.
constexpr int tile_offset(int rows, int row, int channel) {
  const int chunk = channel % panel_channels / 8;
  return channel / panel_channels * panel_bytes(rows) + row * panel_row_bytes + ((chunk ^ row % 8) << 4) +
         channel % 8 * 2;
}

/// `address` in shared memory; distances in bytes. All are multiples of 16 below 2^18.
constexpr std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t leading, std::uint32_t stride) {
  constexpr std::uint64_t swizzle_128_bytes = std::uint64_t{1} << 62;
  constexpr auto field = [](std::uint32_t bytes) { return static_cast<std::uint64_t>(bytes >> 4 & 0x3fffU); };
  return swizzle_128_bytes | field(stride) << 32 | field(leading) << 16 | field(address);
}

/// Rows of a tile from `first_row` on (a multiple of 8), at channels [16 step, 16 step + 16). The tensor cores apply
/// the swizzle to addresses, so 16 channels further on is 32 bytes further on. The leading distance is not read where
/// 16 channels lie in one pattern; 1 is what CuTe writes.
constexpr std::uint64_t rows_descriptor(std::uint32_t tile, int rows, int first_row, int step) {
  const int channel = step * step_channels;
  const int offset =
      channel / panel_channels * panel_bytes(rows) + first_row * panel_row_bytes + channel % panel_channels * 2;
  return matrix_descriptor(tile + static_cast<std::uint32_t>(offset), 16, swizzle_bytes);
}

/// The transposed tile: rows [16 step, 16 step + 16) of all its channels. The leading distance leads to the next panel,
/// the stride to the next 8 rows.
constexpr std::uint64_t transposed_descriptor(std::uint32_t tile, int rows, int channels, int step) {
  const int offset = step * step_channels * panel_row_bytes;
  const int leading = channels > panel_channels ? panel_bytes(rows) : 0;
  return matrix_descriptor(tile + static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(leading),
                           swizzle_bytes);
}

}  // namespace lexring::cuda::hopper
