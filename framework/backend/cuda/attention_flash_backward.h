/// Backward of attention on tensor cores, in two kernels without atomics: gradients of queries by tile of queries (3
/// products), of keys and values by tile of keys (4 products). One kernel that adds its part of dq to memory in a fixed
/// order of key tiles would need 5: it saves the second q k^T and dO v^T, 2 of 7, for f32 dq traffic of 8 bytes per
/// query channel and key tile and the waiting that the order needs. To be judged on a device.
#pragma once

#include "framework/backend/cuda/attention_flash_tiles.h"
#include "framework/backend/cuda/attention_turn.h"

namespace lexring::cuda::flash {

/// Of both sides: one tiling for both kernels, so that rows turned to their tile's base serve both.
inline constexpr int tile_rows = 128;

/// Where rows of one gradient go: to the state between stages, of turned rows, or turned back to the frame of what
/// attention was called with.
struct GradientRows {
  float* state;           ///< [N, heads * E] f32; null where nothing is read of it and nothing written
  int state_width;        ///< heads * E
  bool adds, last;        ///< the state holds a part; the result is written instead of it
  Turn turn;              ///< of the result
  void* result;           ///< first row, when last
  std::int64_t stride;    ///< elements between rows of the result
  bool is_bf16, aligned;  ///< else f32; channel pairs may be written at once

  GradientRows(const Tensor& sums, const CallStage& stage, const Turn& turned, const Columns& to)
      : state(sums.defined() ? sums.data<float>() : nullptr),
        state_width(sums.defined() ? static_cast<int>(sums.row_elements()) : 0),
        adds(!stage.first),
        last(stage.last),
        turn(turned),
        result(nullptr),
        stride(0),
        is_bf16(false),
        aligned(false) {
    if (!last) return;
    is_bf16 = to.dtype() == Dtype::bf16, stride = to.stride();
    result = is_bf16 ? static_cast<void*>(to.data<bfloat16>()) : to.data<float>();
    aligned = reinterpret_cast<std::uintptr_t>(result) % (2 * size_of(to.dtype())) == 0 && stride % 2 == 0;
  }

  template <class T>
  __device__ void put(std::int64_t row, int column, const Floats<2>& x) const {
    T* const to = static_cast<T*>(result) + row * stride + column;
    if (aligned) store<2>(to, x);
    else to[0] = from_float<T>(x[0]), to[1] = from_float<T>(x[1]);
  }
};

struct BackwardArguments {
  HeadView q, k, v, doutput;
  const QueryTile* query_tiles;
  const KeyTile* key_tiles;
  const RowRange* ranges;
  const LogDecay* decay;                              ///< null: none
  const std::int32_t *query_position, *key_position;  ///< with slopes
  const float* slopes;
  int query_tiles_count, key_tiles_count, heads, group, width;
  float scale, binary_scale, inverse_scale;  ///< of scores: natural, in base 2, and 1 / the latter
  const float *lse, *delta;
  GradientRows dq, dk, dv;
};

/// log2 of the sum of a row's weights, such that a row that sees nothing, or is none, has weights 0.
__device__ inline float binary_lse(float lse) { return lse == -infinity ? infinity : lse * log2_e; }

/// Writes rows from `first` on of a head whose channels begin at `column`: sums * scale * 2^(decay * distance), which
/// are in the units and the base of the turned rows, and what the state holds. Bytes per element: 2 for a result that
/// had no state (and the tables of angles once per head, from the cache).
template <int width>
__device__ void write_gradient(const float (&sums)[2][width / 8][4], const GradientRows& to, std::int64_t first,
                               int count, int column, float scale, const LogDecay* decay, int distance) {
  const int lane = this_lane();
  LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
    const int pair = 4 * j + lane % 4, channel = column + 2 * pair;
    if (pair >= to.turn.pairs) continue;
    const float factor = scale * (distance != 0 ? decay_over(decay[pair], static_cast<float>(distance)) : 1.0F);
    LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
      const int r = lane / 4 + 16 * (i / 2) + 8 * (i % 2);
      if (r >= count) continue;
      const std::int64_t row = first + r;
      Floats<2> x{{sums[i / 2][j][i % 2 * 2] * factor, sums[i / 2][j][i % 2 * 2 + 1] * factor}};
      if (to.adds) {
        const Floats<2> before = load<2>(to.state + row * to.state_width + channel);
        x[0] += before[0], x[1] += before[1];
      }
      if (!to.last) {
        store<2>(to.state + row * to.state_width + channel, x);
        continue;
      }
      const Floats<2> turn = to.turn.factors(row, pair);
      const Floats<2> back{{x[0] * turn[0] + x[1] * turn[1], x[1] * turn[0] - x[0] * turn[1]}};
      if (to.is_bf16) to.put<bfloat16>(row, channel, back);
      else to.put<float>(row, channel, back);
    }
  }
}

/// Sums counted from one base are counted from another, `distance` positions on.
template <int width>
__device__ void decay_sums(float (&sums)[2][width / 8][4], const LogDecay* decay, int own, int distance) {
  const int first = this_thread() % 4 * 2;
  LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
    const int channel = 8 * j + first;
    const float factor = channel < own ? decay_over(decay[channel / 2], static_cast<float>(distance)) : 1.0F;
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) { LEXRING_UNROLL for (int e = 0; e < 4; ++e) sums[i][j][e] *= factor; }
  }
}

/// The two kernels; `width` is that of padded heads: 32, 64, 96 or 128.
void flash_backward_queries(const Gpu& gpu, const BackwardArguments& arguments, std::int64_t width);
void flash_backward_keys(const Gpu& gpu, const BackwardArguments& arguments, std::int64_t width);

}  // namespace lexring::cuda::flash
