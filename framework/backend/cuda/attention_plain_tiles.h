/// Tiles of rows in shared memory, and their products in f32 on ordinary cores: what the plain attention kernels are
/// made of.
///
/// A block's 256 threads are a square of 16 x 16: thread (r, c) has rows r, r + 16, ... of a product, and columns c, c
/// + 16, ... of scores or channels 4c .. 4c + 3, 4c + 64, ... of rows. The 16 threads that share a row belong to one
/// warp.
#pragma once

#include <limits>

#include "framework/backend/cuda/attention_decay.h"
#include "framework/backend/cuda/attention_plain.h"
#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/cuda/gpu.h"

namespace lexring::cuda {

inline constexpr int square = 16, plain_threads = square * square;
inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Head widths that kernels are made for: heads are padded to the next with zeros, in shared memory only.
template <int n>
struct HeadWidth {};
template <class Body>
void with_head_width(std::int64_t width, const Body& body) {
  require(width <= widest_plain_head, "attention heads of width {}: the cuda backend has kernels for at most {}", width,
          widest_plain_head);
  if (width <= 32) return body(HeadWidth<32>{});
  if (width <= 64) return body(HeadWidth<64>{});
  if (width <= 128) return body(HeadWidth<128>{});
  return body(HeadWidth<256>{});
}
/// HeadRows::width that `head_rows` and tiles expect.
inline std::int64_t vector_width(std::int64_t width) { return ceil_div<std::int64_t>(width, 8) * 8; }

/// HeadRows as a kernel's argument.
template <class T>
struct Operand {
  const T* data;
  std::int64_t row_stride, head_stride;
  int channels;  ///< a multiple of 8

  __device__ const T* row(int head, std::int64_t n) const { return data + head * head_stride + n * row_stride; }
};
template <class T>
Operand<T> operand(const HeadRows& rows) {
  return {rows.data<T>(), rows.row_stride, rows.head_stride, static_cast<int>(rows.width)};
}

// ---- Shared memory

/// Row strides in floats: 4 more, so that 16 bytes of 8 rows come from different banks; 8 more, so that two rows are
/// written at once.
template <int width>
inline constexpr int row_stride = width + 4;
template <int columns>
inline constexpr int weight_stride = columns + 8;

template <int rows, int width>
struct RowTile {
  alignas(16) float at[rows][row_stride<width>];
};
template <int rows, int columns>
struct WeightTile {
  alignas(16) float at[rows][weight_stride<columns>];
};

struct Place {
  int row = static_cast<int>(threadIdx.x) / square, column = static_cast<int>(threadIdx.x) % square;
};

/// Channels of a thread: `count` in groups of `group` neighbours.
template <int width>
struct Channels {
  static constexpr int count = width / square, group = count < 4 ? count : 4;
  /// Where the group of channel c begins.
  __device__ static int first(int column, int c) { return (c / group * square + column) * group; }
};

/// Rows [first, first + count) of a head, zeros beyond, times `factors` per channel pair (null: 1). Bytes: what is
/// read.
template <int rows, int width, class T>
__device__ void load_tile(RowTile<rows, width>& tile, const Operand<T>& x, int head, int first, int count,
                          const float* factors = nullptr) {
  constexpr int per_row = width / 4, rows_at_once = plain_threads / per_row;
  static_assert(plain_threads % per_row == 0 && rows % rows_at_once == 0);
  const int own = static_cast<int>(threadIdx.x) / per_row, channel = static_cast<int>(threadIdx.x) % per_row * 4;
  const bool inside = channel < x.channels;
  const float even = factors != nullptr ? factors[channel / 2] : 1.0F,
              odd = factors != nullptr ? factors[channel / 2 + 1] : 1.0F;
  const T* from = x.row(head, first + own) + channel;
  LEXRING_UNROLL_FOUR_TIMES for (int i = 0; i < rows / rows_at_once; ++i) {
    const int row = own + i * rows_at_once;
    Floats<4> part{};
    if (inside && row < count) part = load<4>(from);
    from += rows_at_once * x.row_stride;
    part[0] *= even, part[1] *= even, part[2] *= odd, part[3] *= odd;
    store_shared<4>(&tile.at[row][channel], part);
  }
}

/// factors[pair] = decay from the base of a tile of keys to that of a tile of queries.
template <int width>
__device__ void put_factors(float (&factors)[width / 2], const LogDecay* decay, int pairs, int distance) {
  for (int pair = static_cast<int>(threadIdx.x); pair < width / 2; pair += plain_threads)
    factors[pair] = pair < pairs ? decay_over(decay[pair], static_cast<float>(distance)) : 1.0F;
}

// ---- Products

/// sums[i][j] = row i of a times row j of b.
template <int width, int m, int n, int a_rows, int b_rows>
__device__ void multiply(const RowTile<a_rows, width>& a, const RowTile<b_rows, width>& b, Place place,
                         float (&sums)[m][n]) {
  static_assert(m * square == a_rows && n * square == b_rows);
  LEXRING_UNROLL for (int i = 0; i < m; ++i) { LEXRING_UNROLL for (int j = 0; j < n; ++j) sums[i][j] = 0.0F; }
  LEXRING_UNROLL_ONCE for (int e = 0; e < width; e += 4) {
    Floats<4> left[m], right[n];
    LEXRING_UNROLL for (int i = 0; i < m; ++i) left[i] = load<4>(&a.at[place.row + i * square][e]);
    LEXRING_UNROLL for (int j = 0; j < n; ++j) right[j] = load<4>(&b.at[place.column + j * square][e]);
    LEXRING_UNROLL for (int i = 0; i < m; ++i) {
      LEXRING_UNROLL for (int j = 0; j < n; ++j) {
        LEXRING_UNROLL for (int x = 0; x < 4; ++x) sums[i][j] = fmaf(left[i][x], right[j][x], sums[i][j]);
      }
    }
  }
}

/// Puts this thread's weights where `carry` reads them. What others of its warp read needs __syncwarp before and after,
/// not more.
template <int m, int n, int rows, int columns>
__device__ void put_weights(WeightTile<rows, columns>& weights, Place place, const float (&values)[m][n]) {
  LEXRING_UNROLL for (int i = 0; i < m; ++i) {
    LEXRING_UNROLL for (int j = 0; j < n; ++j) weights.at[place.row + i * square][place.column + j * square] =
        values[i][j];
  }
}

/// sums[i][c] += weights of row i times channel c of `rows`.
template <int width, int m, int w_rows, int inner>
__device__ void carry(const WeightTile<w_rows, inner>& weights, const RowTile<inner, width>& rows, Place place,
                      float (&sums)[m][width / square]) {
  using Own = Channels<width>;
  static_assert(m * square == w_rows);
  LEXRING_UNROLL_ONCE for (int k = 0; k < inner; k += 4) {
    Floats<4> left[m];
    LEXRING_UNROLL for (int i = 0; i < m; ++i) left[i] = load<4>(&weights.at[place.row + i * square][k]);
    LEXRING_UNROLL for (int x = 0; x < 4; ++x) {
      LEXRING_UNROLL for (int c = 0; c < Own::count; c += Own::group) {
        const Floats<Own::group> right = load<Own::group>(&rows.at[k + x][Own::first(place.column, c)]);
        LEXRING_UNROLL for (int i = 0; i < m; ++i) {
          LEXRING_UNROLL for (int e = 0; e < Own::group; ++e) sums[i][c + e] =
              fmaf(left[i][x], right[e], sums[i][c + e]);
        }
      }
    }
  }
}

/// Sum (maximum) over the threads of a row.
__device__ inline float row_sum(float x) {
  LEXRING_UNROLL for (int distance = square / 2; distance > 0; distance /= 2) x +=
      __shfl_xor_sync(whole_warp, x, distance);
  return x;
}
__device__ inline float row_max(float x) {
  LEXRING_UNROLL for (int distance = square / 2; distance > 0; distance /= 2) x =
      fmaxf(x, __shfl_xor_sync(whole_warp, x, distance));
  return x;
}

// ---- A row's own channels in global memory, `width` of them

/// body(c, channel) for each of a thread's channels that the head has.
template <int padded, class Body>
__device__ void for_channels(int column, int width, const Body& body) {
  using Own = Channels<padded>;
  LEXRING_UNROLL for (int c = 0; c < Own::count; ++c) {
    const int channel = Own::first(column, c) + c % Own::group;
    if (channel < width) body(c, channel);
  }
}

// ---- Tables

__device__ inline bool sees(const RowRange& row, int key) {
  return (key >= row.first && key < row.last) || (key >= row.sink_first && key < row.sink_last);
}
__device__ inline bool meets(const QueryTile& queries, int key_tile) {
  return (key_tile >= queries.tiles_begin && key_tile < queries.tiles_end) ||
         (key_tile >= queries.sink_tiles_begin && key_tile < queries.sink_tiles_end);
}
/// The key tiles that a tile of queries meets, counted from 0.
__device__ inline int tiles_met(const QueryTile& queries) {
  return queries.tiles_end - queries.tiles_begin + queries.sink_tiles_end - queries.sink_tiles_begin;
}
__device__ inline int tile_met(const QueryTile& queries, int i) {
  const int count = queries.tiles_end - queries.tiles_begin;
  return i < count ? queries.tiles_begin + i : queries.sink_tiles_begin + i - count;
}
/// Whether every query of a tile sees keys [first, first + count).
__device__ inline bool seen_whole(const QueryTile& queries, int first, int count) {
  return first >= queries.whole_first && first + count <= queries.whole_last;
}

}  // namespace lexring::cuda
