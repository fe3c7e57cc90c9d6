/// What a consumer warpgroup of the forward kernel does with its 64 queries between products. A thread has of every row
/// tile of 8 columns two rows, `first` and 8 below it (instructions.h): sums[j][0..1] and sums[j][2..3].
#pragma once

#include "framework/backend/cuda/attention_flash_tiles.h"
#include "framework/backend/cuda/hopper/instructions.h"

namespace lexring::cuda::hopper {

inline constexpr float lowest = -3e38F;  ///< maximum of nothing: finite, so that no difference of two is NaN

/// Of a thread's two rows.
struct RunningSoftmax {
  float maximum[2];  ///< in base 2, the same in the four lanes of a row
  float total[2];    ///< of this thread's columns: summed over the row's lanes at the end only
};

/// Scores become weights exp(s - maximum), in f32. shrink[i]: by what everything summed before is to be multiplied.
/// Returns whether that is other than 1 for a row of this warp. `scale` is of products, in base 2.
template <int n>
__device__ __forceinline__ bool make_weights(float (&scores)[n][4], float scale, RunningSoftmax& softmax,
                                             float (&shrink)[2]) {
  bool grown = false;
  LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
    float top = scores[0][2 * i];
    LEXRING_UNROLL for (int j = 0; j < n; ++j) top = fmaxf(top, fmaxf(scores[j][2 * i], scores[j][2 * i + 1]));
    top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
    top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
    top = fmaxf(top * scale, softmax.maximum[i]);
    shrink[i] = exp2_fast(softmax.maximum[i] - top);
    grown = grown || top != softmax.maximum[i];
    softmax.maximum[i] = top;
    float sum = 0;
    LEXRING_UNROLL for (int j = 0; j < n; ++j) {
      LEXRING_UNROLL for (int e = 2 * i; e < 2 * i + 2; ++e) {
        scores[j][e] = exp2_fast(fmaf(scores[j][e], scale, -top));
        sum += scores[j][e];
      }
    }
    softmax.total[i] = fmaf(softmax.total[i], shrink[i], sum);
  }
  return __any_sync(whole_warp, grown);
}

/// Scores of keys that a row does not see become -inf. `first` is the row among the tile's `count`; rows beyond see
/// nothing.
template <int n>
__device__ __forceinline__ void mask(float (&scores)[n][4], const RowRange* ranges, int first, int count,
                                     const KeyTile& keys) {
  LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
    const RowRange range = first + 8 * i < count ? ranges[first + 8 * i] : RowRange{};
    LEXRING_UNROLL for (int w = 0; w < n / 4; ++w) {  // 32 keys
      const unsigned bits =
          flash::seen_keys(range, keys.first + 32 * w, keys.count - 32 * w) >> flash::this_lane() % 4 * 2;
      LEXRING_UNROLL for (int j = 4 * w; j < 4 * w + 4; ++j) {
        LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
          if ((bits >> (8 * (j % 4) + e) & 1) == 0) scores[j][2 * i + e] = -flash::infinity;
        }
      }
    }
  }
}

/// Positions, for slopes: of keys of a tile of 128, those of rows lane, lane + 32, ...; of a thread's two queries.
struct Positions {
  int key[4], query[2];

  __device__ __forceinline__ void read_keys(const std::int32_t* positions, const KeyTile& keys) {
    LEXRING_UNROLL for (int w = 0; w < 4; ++w) {
      const int row = flash::this_lane() + 32 * w;
      key[w] = positions[keys.first + (row < keys.count ? row : 0)];
    }
  }
  __device__ __forceinline__ void read_queries(const std::int32_t* positions, const QueryTile& tile, int first) {
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) query[i] =
        positions[tile.first + (first + 8 * i < tile.count ? first + 8 * i : 0)];
  }
};

/// Scores -= slope |key - query|, in f32 from the tile's first key on, which is exact for 2^24 positions around it.
template <int n>
__device__ __forceinline__ void add_slopes(float (&scores)[n][4], float slope, const Positions& positions) {
  const int origin = __shfl_sync(whole_warp, positions.key[0], 0);
  float query[2];
  LEXRING_UNROLL for (int i = 0; i < 2; ++i) query[i] = static_cast<float>(positions.query[i] - origin);
  LEXRING_UNROLL for (int w = 0; w < n / 4; ++w) {
    // Not all 32 shuffles first: registers are short.
    const int position = w == 0 ? positions.key[0] : after(positions.key[w], scores[4 * w - 1][3]);
    const float keys = static_cast<float>(position - origin);
    LEXRING_UNROLL for (int j = 4 * w; j < 4 * w + 4; ++j) {
      LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
        const float key = __shfl_sync(whole_warp, keys, 8 * (j % 4) + flash::this_lane() % 4 * 2 + e);
        LEXRING_UNROLL for (int i = 0; i < 2; ++i) scores[j][2 * i + e] =
            fmaf(-slope, fabsf(key - query[i]), scores[j][2 * i + e]);
      }
    }
  }
}

/// Four words of each of four neighbouring lanes, transposed: lane t gets word t of all, in order of lanes.
__device__ __forceinline__ void transpose_in_quad(unsigned (&word)[4]) {
  const int lane = flash::this_lane();
  const auto exchange = [&](unsigned& low, unsigned& high, int distance) {
    const bool upper = (lane & distance) != 0;
    const unsigned other = __shfl_xor_sync(whole_warp, upper ? low : high, distance);
    (upper ? low : high) = other;
  };
  exchange(word[0], word[1], 1), exchange(word[2], word[3], 1);
  exchange(word[0], word[2], 2), exchange(word[1], word[3], 2);
}

/// `rows` queries (0 beyond `count`) once more from memory, channel pair i times 2^(decay[i] distance), by the 128
/// threads of a warpgroup.
template <int width>
__device__ __forceinline__ void load_decayed_rows(bfloat16* tile, int tile_rows, int first, int rows, int count,
                                                  const bfloat16* from, int stride, const LogDecay* decay, int pairs,
                                                  int distance) {
  constexpr int of_row = width / 8, pass = 128 / of_row;
  const int thread = flash::this_thread() % 128, chunk = thread % of_row;
  float factor[4];
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const int pair = chunk * 4 + i;
    factor[i] = pair < pairs ? decay_over(decay[pair], static_cast<float>(distance)) : 1.0F;
  }
  for (int row = first + thread / of_row; row < first + rows; row += pass) {
    Floats<8> x{};
    if (row < count) x = load<8>(from + static_cast<std::int64_t>(row) * stride + chunk * 8);
    LEXRING_UNROLL for (int i = 0; i < 8; ++i) x[i] *= factor[i / 2];
    store_shared<8>(tile + tile_offset(tile_rows, row, chunk * 8) / 2, x);
  }
}

}  // namespace lexring::cuda::hopper
