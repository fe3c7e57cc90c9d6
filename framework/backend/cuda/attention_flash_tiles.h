/// What the flash kernels share: tiles of rows in shared memory, products of tiles on tensor cores, masks.
///
/// Shared memory: a tile is rows of `width` channels without padding. The 16-byte chunks of a row are permuted by XOR
/// with a few bits of the row, so that any 8 rows at one chunk (what ldmatrix reads at once) and any 8 chunks of a row
/// (what a copy writes at once) lie in different banks.
///
/// Registers: lane l holds of a 16 x 8 tile of sums rows l / 4 and l / 4 + 8 at columns 2 (l % 4) and the next (gpu.h).
/// A warp has 2 such tiles below each other: 32 rows, which halves what it reads of the other operand.
#pragma once

#include <type_traits>

#include "framework/attention/tiling.h"
#include "framework/backend/cuda/attention_decay.h"
#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/cuda/gpu.h"

namespace lexring::cuda::flash {

inline constexpr float infinity = __builtin_huge_valf();
inline constexpr int warp_rows = 32;

/// body(the width as a constant): heads are padded with zeros to the next width that kernels are made for.
template <class Body>
void with_width(std::int64_t padded, const Body& body) {
  if (padded == 32) return body(std::integral_constant<int, 32>{});
  if (padded == 64) return body(std::integral_constant<int, 64>{});
  if (padded == 96) return body(std::integral_constant<int, 96>{});
  return body(std::integral_constant<int, 128>{});
}

/// Computed where they are needed: sums take nearly all registers of a thread.
__device__ inline int this_thread() { return anew(static_cast<int>(threadIdx.x)); }
__device__ inline int this_lane() { return this_thread() % warp_size; }

/// Rows of one operand by head.
struct HeadView {
  const bfloat16* data;
  std::int64_t head_stride;
  int row_stride;  ///< tiles are short: offsets within one fit 32 bits

  explicit HeadView(const HeadRows& rows)
      : data(rows.data<bfloat16>()), head_stride(rows.head_stride), row_stride(static_cast<int>(rows.row_stride)) {
    require(rows.row_stride < 1 << 23, "attention on the cuda backend takes rows of less than {} elements, not {}",
            1 << 23, rows.row_stride);
  }
  __device__ const bfloat16* at(int head, int row) const {
    return data + head * head_stride + static_cast<std::int64_t>(row) * row_stride;
  }
};

/// Where a chunk of 8 channels begins in a tile, in elements. Rows 8 apart have the same permutation.
template <int width>
__device__ int swizzled(int row, int chunk) {
  const int turn = width % 64 == 0 ? row & 7 : (row >> 1) & 3;
  return row * width + (chunk ^ turn) * 8;
}

/// What ldmatrix reads of a tile: `mine` is where this lane's row and chunk 0 or 1 begin, by swizzled(); returns where
/// the k-th next pair of chunks begins. Few of these need a register: the rest is a constant.
template <int width>
__device__ int next_pair(int mine, int k) {
  constexpr int permuted = width % 64 == 0 ? 4 : 2;  // pairs among which rows permute
  return (mine ^ (k % permuted * 16)) + k / permuted * (permuted * 16);
}

/// How a block's threads share the 16-byte chunks of a tile's rows: each stays at one chunk of every `pass`-th row.
template <int width, int threads>
struct Chunks {
  static constexpr int of_row = width / 8, pass = threads / of_row;
  int thread = this_thread(), chunk = thread % of_row, row = thread / of_row;
};

/// Copies `count` rows (0 beyond, up to `rows`) asynchronously.
template <int width, int rows, int threads>
__device__ void load_tile(bfloat16* tile, const bfloat16* from, int stride, int count) {
  using Mine = Chunks<width, threads>;
  const Mine mine;
  if (threads % Mine::of_row != 0 && mine.row >= Mine::pass) return;
  const bfloat16* const at = from + (mine.row * stride + mine.chunk * 8);
  const int left = count - mine.row;
  LEXRING_UNROLL for (int i = 0; i < ceil_div(rows, Mine::pass); ++i) {
    const int down = i * Mine::pass;
    if (rows % Mine::pass != 0 && mine.row + down >= rows) break;
    cp_async(tile + swizzled<width>(mine.row + down, mine.chunk), at + static_cast<std::int64_t>(stride) * down,
             down < left);
  }
}

/// The same at once, channel pair i times 2^(decay[i] * distance). There are `pairs` of them; the others are padding.
template <int width, int rows, int threads>
__device__ void load_decayed_tile(bfloat16* tile, const bfloat16* from, int stride, int count, const LogDecay* decay,
                                  int pairs, int distance) {
  using Mine = Chunks<width, threads>;
  const Mine mine;
  if (mine.row >= Mine::pass) return;
  float factor[4];
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const int channel_pair = mine.chunk * 4 + i;
    factor[i] = channel_pair < pairs ? decay_over(decay[channel_pair], static_cast<float>(distance)) : 1.0F;
  }
  for (int row = mine.row; row < rows; row += Mine::pass) {
    Floats<8> x{};
    if (row < count) x = load<8>(from + row * stride + mine.chunk * 8);
    LEXRING_UNROLL for (int i = 0; i < 8; ++i) x[i] *= factor[i / 2];
    store_shared<8>(tile + swizzled<width>(row, mine.chunk), x);
  }
}

/// sums [16 m, 8 n] += left [16 m, width] right [8 n, width]^T, both tiles of rows in shared memory (from a row that is
/// a multiple of 8).
template <int width, int m, int n>
__device__ void add_row_products(float (&sums)[m][n][4], const bfloat16* left, const bfloat16* right) {
  __syncwarp();  // ldmatrix and mma are of whole warps, and lanes may have gone different ways before
  const int lane = this_lane(), row = lane % 8, matrix = lane / 8;
  const int left_mine = swizzled<width>(matrix % 2 * 8 + row, matrix / 2),
            right_mine = swizzled<width>(matrix / 2 * 8 + row, matrix % 2);
  LEXRING_UNROLL for (int k = 0; k < width / 16; ++k) {
    unsigned a[m][4];
    LEXRING_UNROLL for (int i = 0; i < m; ++i)
        ldmatrix_x4(a[i], left + next_pair<width>(left_mine, k) + 16 * i * width);
    LEXRING_UNROLL for (int j = 0; j < n / 2; ++j) {
      unsigned b[4];
      ldmatrix_x4(b, right + next_pair<width>(right_mine, k) + 16 * j * width);
      const unsigned even[2] = {b[0], b[1]}, odd[2] = {b[2], b[3]};
      LEXRING_UNROLL for (int i = 0; i < m; ++i) {
        mma_16x8x16(sums[i][2 * j], a[i], even);
        mma_16x8x16(sums[i][2 * j + 1], a[i], odd);
      }
    }
  }
}

/// The rows of a tile as right operand: sums of them by weights.
template <int width>
class WeightedRows {
 public:
  __device__ explicit WeightedRows(const bfloat16* tile) {
    __syncwarp();  // as above
    const int lane = this_lane(), row = lane % 8, matrix = lane / 8;
    tile_ = tile, mine_ = swizzled<width>(matrix % 2 * 8 + row, matrix / 2);
  }
  /// sums [16 m, width] += left [16 m, 16] times the 16 rows from 16 k on.
  template <int m>
  __device__ void add(float (&sums)[m][width / 8][4], const unsigned (&left)[m][4], int k) const {
    LEXRING_UNROLL for (int j = 0; j < width / 16; ++j) {
      unsigned b[4];
      ldmatrix_x4_transposed(b, tile_ + next_pair<width>(mine_, j) + 16 * k * width);
      const unsigned even[2] = {b[0], b[1]}, odd[2] = {b[2], b[3]};
      LEXRING_UNROLL for (int i = 0; i < m; ++i) {
        mma_16x8x16(sums[i][2 * j], left[i], even);
        mma_16x8x16(sums[i][2 * j + 1], left[i], odd);
      }
    }
  }

 private:
  const bfloat16* tile_;
  int mine_;
};

/// Sums become the left operand of the next product: two tiles of 8 columns are one step of 16.
__device__ inline void pack_left(const float (&even)[4], const float (&odd)[4], unsigned (&left)[4]) {
  left[0] = pack_bfloat16(even[0], even[1]), left[1] = pack_bfloat16(even[2], even[3]);
  left[2] = pack_bfloat16(odd[0], odd[1]), left[3] = pack_bfloat16(odd[2], odd[3]);
}

/// Four registers to and from memory aligned to 16 bytes.
struct alignas(16) FourRegisters {
  unsigned value[4];
};
__device__ inline void store_registers(unsigned (&to)[4], const unsigned (&x)[4]) { store_shared_words(&to, x); }
__device__ inline void load_registers(const unsigned (&from)[4], unsigned (&x)[4]) {
  const FourRegisters loaded = *reinterpret_cast<const FourRegisters*>(&from);
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) x[i] = loaded.value[i];
}

/// Which of up to 32 keys from row `first` on a query sees, one bit each. A lane makes those of one query; who needs
/// them gets them by a shuffle: four ranges per thread would not fit beside the sums.
__device__ inline unsigned seen_keys(const RowRange& range, int first, int count) {
  const auto between = [&](int begin, int end) {
    begin = begin < first ? 0 : begin - first, end = (end - first < count ? end - first : count) - begin;
    return end <= 0 ? 0U : (~0U >> (warp_size - end)) << begin;
  };
  if (count > warp_size) count = warp_size;
  return between(range.first, range.last) | between(range.sink_first, range.sink_last);
}

/// Positions between `origin` and row r of `count`; of some row beyond them.
__device__ inline float position_from(int origin, const std::int32_t* positions, int r, int count) {
  return static_cast<float>(positions[r < count ? r : 0] - origin);
}

/// Copies a record of a tile asynchronously, by the block's first threads.
template <class Record>
__device__ void copy_record(Record& to, const Record& from) {
  static_assert(sizeof(Record) % 16 == 0);
  const int i = this_thread() * 16;
  if (i < static_cast<int>(sizeof(Record)))
    cp_async(reinterpret_cast<unsigned char*>(&to) + i, reinterpret_cast<const unsigned char*>(&from) + i);
}

/// The key tiles that a tile of queries meets, in ascending order (so that decay from one to the next never grows).
struct KeyWalk {
  int first_begin, first_count, second_begin, count;

  __device__ explicit KeyWalk(const QueryTile& q) {
    const bool sinks_first = q.sink_tiles_begin < q.tiles_begin;
    first_begin = sinks_first ? q.sink_tiles_begin : q.tiles_begin;
    first_count = sinks_first ? q.sink_tiles_end - q.sink_tiles_begin : q.tiles_end - q.tiles_begin;
    second_begin = sinks_first ? q.tiles_begin : q.sink_tiles_begin;
    count = q.tiles_end - q.tiles_begin + (q.sink_tiles_end - q.sink_tiles_begin);
  }
  __device__ int operator[](int i) const {
    return i < first_count ? first_begin + i : second_begin + (i - first_count);
  }
};

}  // namespace lexring::cuda::flash
