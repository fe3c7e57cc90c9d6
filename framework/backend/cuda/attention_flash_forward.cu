#include <algorithm>
#include <cmath>

#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/attention_flash_tiles.h"

namespace lexring::cuda {
namespace {

using namespace flash;

constexpr int query_rows = 128, key_rows = 64, threads = 128;
constexpr float lowest = -3e38F;  ///< maximum of nothing: finite, so that no difference of two is NaN

struct ForwardArguments {
  HeadView q, k, v;
  const QueryTile* query_tiles;
  const KeyTile* key_tiles;
  const RowRange* ranges;
  const LogDecay* decay;                              ///< null: none
  const std::int32_t *query_position, *key_position;  ///< with slopes
  const float* slopes;
  int tiles, heads, group, width;
  float binary_scale, inverse_scale;  ///< of scores in base 2, and 1 / it
  bool first, last;
  bool vectors;  ///< output is written 16 bytes at a time
  float *state_output, *state_maximum, *state_sum;
  bfloat16* output;
  float* lse;
};

template <int width>
struct ForwardShared {
  alignas(128) bfloat16 q[query_rows * width];
  bfloat16 k[2][key_rows * width], v[2][key_rows * width];
  alignas(
      16) QueryTile tile;  ///< what the loop over keys needs to know of the block lies here: it would take registers
  alignas(16) KeyTile keys[4];  ///< of step i: keys[i % 4], from two steps before it to one after
};

/// Blocks per multiprocessor: as many as registers allow, 227 KiB of shared memory (H100) suffice for each of these.
constexpr int forward_blocks(int width) { return width <= 64 ? 3 : 2; }

/// A warp's rows, divided by the sums of their weights: by way of shared memory, so that memory is written 16 bytes at
/// a time.
template <int width>
__device__ void write_output(const float (&sums)[2][width / 8][4], const float (&total)[2][2], bfloat16* staging,
                             const ForwardArguments& c, int first, int count, int head) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const float sum = total[i / 2][i % 2], inverse = sum > 0 ? 1.0F / sum : 0.0F;
    LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
      store_shared<2>(staging + swizzled<width>(lane / 4 + 8 * i, j) + lane % 4 * 2,
                      Floats<2>{{sums[i / 2][j][i % 2 * 2] * inverse, sums[i / 2][j][i % 2 * 2 + 1] * inverse}});
    }
  }
  __syncwarp();
  for (int i = lane; i < warp_rows * width / 8; i += warp_size) {
    const int r = i / (width / 8), chunk = i % (width / 8);
    if (r >= count || 8 * chunk >= c.width) continue;
    const bfloat16* from = staging + swizzled<width>(r, chunk);
    bfloat16* to = c.output + (static_cast<std::int64_t>(first + r) * c.heads + head) * c.width + 8 * chunk;
    if (c.vectors) {
      store<8>(to, load<8>(from));
    } else {
      for (int e = 0; e < 8 && 8 * chunk + e < c.width; ++e) to[e] = from[e];
    }
  }
}

/// One tile of 128 queries of one head, 32 rows per warp, against all tiles of 64 keys that they see. Scores, weights
/// and outputs stay in registers.
///
/// Floor: 4 * 128 * 64 * width operations per pair of tiles over the tensor peak. Shared memory: per warp and 16
/// channels, 6 ldmatrix (512 bytes) for 16 mma of q k^T, and per 16 keys 1 per 4 mma of p v: at width 128, 320 bytes in
/// all for each 16 x 8 x 16 product of 256 that a warp needs per tile, 2.5 cycles of 128 bytes a multiprocessor,
/// against 2 (A100) or 1 (H100's peak, which mma.sync reaches to about 60 %) of its tensor cores per 2 mma.
template <int width, bool sloped>
__global__ void __launch_bounds__(threads, forward_blocks(width)) flash_forward(const ForwardArguments c) {
  auto& shared = shared_memory<ForwardShared<width>>();
  // Causal: those with most keys first.
  const auto this_tile = [&]() -> const QueryTile& {
    return c.query_tiles[c.tiles - 1 - anew(static_cast<int>(blockIdx.x))];
  };
  const auto this_key_head = [] { return anew(static_cast<int>(blockIdx.z)); };
  const auto this_head = [&] { return this_key_head() * c.group + anew(static_cast<int>(blockIdx.y)); };
  const auto first_row = [] { return this_thread() / warp_size * warp_rows; };  // of this warp
  const auto first_sum = [&] { return first_row() + this_lane() / 4; };         // row of this thread's first sums

  float sums[2][width / 8][4] = {};
  float maximum[2][2], total[2][2];  // maximum in base 2; total: this thread's columns
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) maximum[i / 2][i % 2] = lowest, total[i / 2][i % 2] = 0;
  if (!c.first) {
    const QueryTile& tile = this_tile();
    const int channel = this_lane() % 4 * 2;
    LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
      const int r = first_sum() + 8 * i;
      if (r >= tile.count) continue;
      const std::int64_t at = static_cast<std::int64_t>(tile.first + r) * c.heads + this_head();
      maximum[i / 2][i % 2] = fmaxf(c.state_maximum[at] * log2_e, lowest);
      if (channel == 0) total[i / 2][i % 2] = c.state_sum[at];
      const float* from = c.state_output + at * c.width + channel;
      LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
        if (8 * j + channel >= c.width) continue;
        const Floats<2> x = load<2>(from + 8 * j);
        sums[i / 2][j][i % 2 * 2] = x[0], sums[i / 2][j][i % 2 * 2 + 1] = x[1];
      }
    }
  }

  const auto load_keys = [&](const KeyTile& keys, int stage) {
    load_tile<width, key_rows, threads>(shared.k[stage], c.k.at(this_key_head(), keys.first), c.k.row_stride,
                                        keys.count);
    load_tile<width, key_rows, threads>(shared.v[stage], c.v.at(this_key_head(), keys.first), c.v.row_stride,
                                        keys.count);
  };
  bool more = false;
  {
    const QueryTile& tile = this_tile();
    const KeyWalk walk(tile);
    more = walk.count > 0;
    if (more) {
      if (c.key_tiles[walk[0]].base == tile.base)
        load_tile<width, query_rows, threads>(shared.q, c.q.at(this_head(), tile.first), c.q.row_stride, tile.count);
      load_keys(c.key_tiles[walk[0]], 0);
      copy_record(shared.tile, tile);
      copy_record(shared.keys[0], c.key_tiles[walk[0]]);
      if (walk.count > 1) copy_record(shared.keys[1], c.key_tiles[walk[1]]);
      cp_async_commit();
    }
  }
  LEXRING_UNROLL_ONCE for (int step = 0; more; ++step) {
    cp_async_wait<0>();
    __syncthreads();  // these keys are here, and nobody reads those before
    const KeyWalk walk(shared.tile);
    more = step + 1 < walk.count;
    if (more) {
      load_keys(shared.keys[(step + 1) % 4], (step + 1) % 2);
      if (step + 2 < walk.count) copy_record(shared.keys[(step + 2) % 4], c.key_tiles[walk[step + 2]]);
      cp_async_commit();
    }
    const int base = shared.keys[step % 4].base;
    if (base != (step == 0 ? shared.tile.base : shared.keys[(step + 3) % 4].base)) {
      const QueryTile& tile = shared.tile;
      load_decayed_tile<width, query_rows, threads>(shared.q, c.q.at(this_head(), tile.first), c.q.row_stride,
                                                    tile.count, c.decay, c.width / 2, tile.base - base);
      __syncthreads();
    }
    const KeyTile& keys = shared.keys[step % 4];
    const bool whole = keys.count == key_rows && keys.first >= shared.tile.whole_first &&
                       keys.first + key_rows <= shared.tile.whole_last;
    unsigned seen[key_rows / warp_size] = {};  // by row this_thread() of the tile
    if (!whole) {
      if (this_thread() < shared.tile.count) {
        const RowRange range = c.ranges[shared.tile.first + this_thread()];
        LEXRING_UNROLL for (int w = 0; w < key_rows; w += warp_size) seen[w / warp_size] =
            seen_keys(range, keys.first + w, keys.count - w);
      }
      if (!__any_sync(whole_warp, (seen[0] | seen[1]) != 0)) continue;
    }

    float scores[2][key_rows / 8][4] = {};
    if constexpr (sloped) {  // products add to the slopes: before them there are registers for it
      const int origin = c.key_position[keys.first];
      const float query_position =
          position_from(origin, c.query_position + shared.tile.first, this_thread(), shared.tile.count);
      const float slope = c.slopes[this_head()] * c.inverse_scale;
      float position[4];
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) position[i] =
          __shfl_sync(whole_warp, query_position, this_lane() / 4 + 8 * i);
      LEXRING_UNROLL for (int w = 0; w < key_rows / warp_size; ++w) {
        const float key_positions =
            position_from(origin, c.key_position + keys.first, this_lane() + w * warp_size, keys.count);
        LEXRING_UNROLL for (int j = 4 * w; j < 4 * w + 4; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
            const float key_position = __shfl_sync(whole_warp, key_positions, 8 * (j % 4) + this_lane() % 4 * 2 + e);
            LEXRING_UNROLL for (int i = 0; i < 4; ++i) scores[i / 2][j][i % 2 * 2 + e] =
                -slope * fabsf(key_position - position[i]);
          }
        }
      }
    }
    add_row_products<width>(scores, shared.q + first_row() * width, shared.k[step % 2]);
    if (!whole) {
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        LEXRING_UNROLL for (int w = 0; w < key_rows / warp_size; ++w) {
          const unsigned bits = __shfl_sync(whole_warp, seen[w], this_lane() / 4 + 8 * i) >> this_lane() % 4 * 2;
          LEXRING_UNROLL for (int j = 4 * w; j < 4 * w + 4; ++j) {
            LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
              if ((bits >> (8 * (j % 4) + e) & 1) == 0) scores[i / 2][j][i % 2 * 2 + e] = -infinity;
            }
          }
        }
      }
    }

    float shrink[2][2];
    bool grown = false;
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
      LEXRING_UNROLL for (int half = 0; half < 2; ++half) {
        float top = scores[i][0][2 * half];
        LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) top =
            fmaxf(top, fmaxf(scores[i][j][2 * half], scores[i][j][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
        top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
        top = fmaxf(top * c.binary_scale, maximum[i][half]);
        shrink[i][half] = exp2_fast(maximum[i][half] - top);
        grown = grown || top != maximum[i][half];
        maximum[i][half] = top;
        total[i][half] *= shrink[i][half];
      }
    }
    if (__any_sync(whole_warp, grown)) {  // rare after the first tiles
      LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
        LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 4; ++e) sums[i][j][e] *= shrink[i][e / 2];
        }
      }
    }
    WeightedRows<width> values(shared.v[step % 2]);
    LEXRING_UNROLL for (int k = 0; k < key_rows / 16;
                        ++k) {  // 16 keys at a time, so that the next weights are made while these are multiplied
      unsigned weights[2][4];
      LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
        LEXRING_UNROLL for (int half = 0; half < 2; ++half) {
          float w[4];
          LEXRING_UNROLL for (int e = 0; e < 4; ++e) {
            w[e] = exp2_fast(fmaf(scores[i][2 * k + e / 2][2 * half + e % 2], c.binary_scale, -maximum[i][half]));
          }
          total[i][half] += (w[0] + w[1]) + (w[2] + w[3]);
          weights[i][half] = pack_bfloat16(w[0], w[1]), weights[i][2 + half] = pack_bfloat16(w[2], w[3]);
        }
      }
      values.add(sums, weights, k);
    }
  }

  const QueryTile& tile = this_tile();
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    float& sum = total[i / 2][i % 2];
    sum += __shfl_xor_sync(whole_warp, sum, 1);
    sum += __shfl_xor_sync(whole_warp, sum, 2);
    const int r = first_sum() + 8 * i;
    const std::int64_t at = static_cast<std::int64_t>(tile.first + r) * c.heads + this_head();
    const float natural = maximum[i / 2][i % 2] == lowest ? -infinity : maximum[i / 2][i % 2] * ln_2;
    if (this_lane() % 4 != 0 || r >= tile.count) continue;
    if (c.last) c.lse[at] = sum > 0 ? natural + logf(sum) : -infinity;
    else c.state_maximum[at] = natural, c.state_sum[at] = sum;
  }
  if (c.last) {
    const int first = first_row();
    return write_output<width>(sums, total, shared.q + first * width, c, tile.first + first, tile.count - first,
                               this_head());
  }
  const int channel = this_lane() % 4 * 2;
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const int r = first_sum() + 8 * i;
    if (r >= tile.count) continue;
    float* to =
        c.state_output + (static_cast<std::int64_t>(tile.first + r) * c.heads + this_head()) * c.width + channel;
    LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
      if (8 * j + channel < c.width)
        store<2>(to + 8 * j, Floats<2>{{sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]}});
    }
  }
}

template <int width>
void start(const Gpu& gpu, const ForwardArguments& arguments) {
  const auto tiles = static_cast<unsigned>(arguments.tiles), group = static_cast<unsigned>(arguments.group);
  const dim3 blocks(tiles, group, static_cast<unsigned>(arguments.heads) / group);
  launch(gpu.stream, blocks, threads, sizeof(ForwardShared<width>),
         arguments.slopes != nullptr ? flash_forward<width, true> : flash_forward<width, false>, arguments);
}

}  // namespace

bool flash_supports(const AttentionForm& form, const ScoreBias& bias, Dtype working) {
  return working == Dtype::bf16 && form.normalizer == Normalizer::softmax && form.head_width <= 128 &&
         form.head_width % 2 == 0 && form.scale > 0 && !form.caps() && !form.clamps() && !bias.by_distance.defined() &&
         std::none_of(form.log_decay.begin(), form.log_decay.end(), [](double d) { return d > 0; });
}

void flash_attention(const Gpu& gpu, const AttentionForward& call) {
  const AttentionForm& form = call.form;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, query_rows, key_rows);
  const std::int64_t width = ceil_div<std::int64_t>(form.head_width, 32) * 32;
  const HeadRows q =
      turned_rows(gpu, call.q, form.heads, width, call.queries->rotary, tables.query_distance, tables.decay);
  const HeadRows k =
      turned_rows(gpu, call.k, form.kv_heads, width, call.keys->rotary, tables.key_distance, tables.decay);
  const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, {}, {}, {});
  ForwardArguments arguments{.q = HeadView(q),
                             .k = HeadView(k),
                             .v = HeadView(v),
                             .query_tiles = tables.queries(),
                             .key_tiles = tables.keys(),
                             .ranges = tables.rows(),
                             .decay = nullptr,
                             .query_position = nullptr,
                             .key_position = nullptr,
                             .slopes = nullptr,
                             .tiles = tables.query_tiles_count,
                             .heads = static_cast<int>(form.heads),
                             .group = static_cast<int>(form.heads / form.kv_heads),
                             .width = static_cast<int>(form.head_width),
                             .binary_scale = static_cast<float>(form.scale) * log2_e,
                             .inverse_scale = 1.0F / (static_cast<float>(form.scale) * log2_e),
                             .first = call.stage.first,
                             .last = call.stage.last,
                             .vectors = false,
                             .state_output = nullptr,
                             .state_maximum = nullptr,
                             .state_sum = nullptr,
                             .output = nullptr,
                             .lse = nullptr};
  if (tables.decay.defined()) arguments.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  if (tables.slopes.defined()) {
    arguments.query_position = tables.query_position.data<std::int32_t>(),
    arguments.key_position = tables.key_position.data<std::int32_t>();
    arguments.slopes = tables.slopes.data<float>();
  }
  if (!call.stage.first || !call.stage.last) {
    arguments.state_output = call.state.output.data<float>();
    arguments.state_maximum = call.state.maximum.data<float>(), arguments.state_sum = call.state.sum.data<float>();
  }
  if (call.stage.last) arguments.output = call.output.data<bfloat16>(), arguments.lse = call.lse.data<float>();
  arguments.vectors = form.head_width % 8 == 0 && aligned(arguments.output);
  with_width(width, [&]<int w>(std::integral_constant<int, w>) { start<w>(gpu, arguments); });
}

}  // namespace lexring::cuda
