#include <cmath>

#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/attention_flash_tiles.h"

namespace lexring::cuda {
namespace {

using namespace flash;

constexpr int query_rows = 128, key_rows = 64, threads = 128;

struct ForwardArguments {
  HeadView q, k, v;
  const QueryTile* query_tiles;
  const KeyTile* key_tiles;
  const RowRange* ranges;
  const LogDecay* decay;                             ///< null: none
  const std::int32_t *query_position, *key_position;  ///< with slopes
  const float* slopes;
  int tiles, heads, group, width;
  float scale;         ///< of scores, natural; slopes are in base 2
  bool first, last;
  bool vectors;        ///< output is written 16 bytes at a time
  float *state_output, *state_maximum, *state_sum;
  bfloat16* output;
  float* lse;
};

template <int width>
struct ForwardShared {
  alignas(128) bfloat16 q[query_rows * width];
  bfloat16 k[2][key_rows * width], v[2][key_rows * width];
};

/// Blocks per multiprocessor: as many as registers allow, 227 KiB of shared memory (H100) suffice for each of these.
constexpr int forward_blocks(int width) { return width <= 64 ? 3 : 2; }

/// A warp's rows, divided by the sums of their weights: by way of shared memory, so that memory is written 16 bytes at a time.
template <int width>
__device__ void write_output(const float (&sums)[2][width / 8][4], const float (&total)[2][2], bfloat16* staging, const ForwardArguments& c, int first,
                             int count, int head) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const float sum = total[i / 2][i % 2], inverse = sum > 0 ? 1.0F / sum : 0.0F;
    LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
      store<2>(staging + swizzled<width>(lane / 4 + 8 * i, j) + lane % 4 * 2,
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

/// One tile of 128 queries of one head, 32 rows per warp, against all tiles of 64 keys that they see. Scores, weights and outputs stay in registers.
///
/// Floor: 4 * 128 * 64 * width operations per pair of tiles over the tensor peak. Shared memory: per warp and 16 channels, 6 ldmatrix (512 bytes) for 16
/// mma of q k^T, and per 16 keys 1 per 4 mma of p v: at width 128, 320 bytes in all for each 16 x 8 x 16 product of 256 that a warp needs per tile,
/// 2.5 cycles of 128 bytes a multiprocessor, against 2 (A100) or 1 (H100's peak, which mma.sync reaches to about 60 %) of its tensor cores per 2 mma.
template <int width, bool sloped>
__global__ void __launch_bounds__(threads, forward_blocks(width)) flash_forward(const ForwardArguments c) {
  auto& shared = shared_memory<ForwardShared<width>>();
  const QueryTile& tile = c.query_tiles[c.tiles - 1 - static_cast<int>(blockIdx.x)];  // causal: those with most keys first
  const KeyWalk walk(tile);
  const int head = static_cast<int>(blockIdx.y), key_head = head / c.group;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size;
  const int row = warp * warp_rows + lane / 4, channel = lane % 4 * 2;  // of this thread's first sums
  const float factor = sloped ? 1.0F : c.scale * log2_e;  // with slopes scores are in base 2 already

  float sums[2][width / 8][4] = {};
  float maximum[2][2], total[2][2];  // maximum in units of the product, of base 2 with slopes; total: this thread's columns
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) maximum[i / 2][i % 2] = -infinity, total[i / 2][i % 2] = 0;
  if (!c.first) {
    LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
      const int r = row + 8 * i;
      if (r >= tile.count) continue;
      const std::int64_t at = static_cast<std::int64_t>(tile.first + r) * c.heads + head;
      maximum[i / 2][i % 2] = c.state_maximum[at] / (sloped ? ln_2 : c.scale);
      if (lane % 4 == 0) total[i / 2][i % 2] = c.state_sum[at];
      const float* from = c.state_output + at * c.width + channel;
      LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
        if (8 * j + channel >= c.width) continue;
        const Floats<2> x = load<2>(from + 8 * j);
        sums[i / 2][j][i % 2 * 2] = x[0], sums[i / 2][j][i % 2 * 2 + 1] = x[1];
      }
    }
  }

  struct Keys {
    int first, count;
  };
  const auto keys_at = [&](int i) {
    const KeyTile& keys = c.key_tiles[walk[i]];
    return Keys{keys.first, keys.count};
  };
  const auto load_keys = [&](const Keys& keys, int stage) {
    load_tile<width, key_rows, threads>(shared.k[stage], c.k.at(key_head, keys.first), c.k.row_stride, keys.count);
    load_tile<width, key_rows, threads>(shared.v[stage], c.v.at(key_head, keys.first), c.v.row_stride, keys.count);
    cp_async_commit();
  };
  Keys keys{}, next{};
  if (walk.count > 0) {
    keys = keys_at(0);
    if (c.decay == nullptr) load_tile<width, query_rows, threads>(shared.q, c.q.at(head, tile.first), c.q.row_stride, tile.count);
    load_keys(keys, 0);
    if (walk.count > 1) next = keys_at(1);
  }
  const int whole_first = tile.whole_first, whole_last = tile.whole_last;
  int base = -1;
  const auto advance = [&](int step) {  // the record is read well before it is needed
    keys = next;
    if (step + 2 < walk.count) next = keys_at(step + 2);
  };
  for (int step = 0; step < walk.count; advance(step), ++step) {
    cp_async_wait<0>();
    __syncthreads();  // these keys are here, and nobody reads those before
    if (step + 1 < walk.count) load_keys(next, (step + 1) % 2);
    if (c.decay != nullptr && c.key_tiles[walk[step]].base != base) {
      base = c.key_tiles[walk[step]].base;
      load_decayed_tile<width, query_rows, threads>(shared.q, c.q.at(head, tile.first), c.q.row_stride, tile.count, c.decay, c.width / 2, tile.base - base);
      __syncthreads();
    }
    const bool whole = keys.count == key_rows && keys.first >= whole_first && keys.first + key_rows <= whole_last;
    if (!whole) {
      const int mine = warp * warp_rows + lane;
      const bool sees = mine < tile.count && SeenKeys(c.ranges[tile.first + mine], keys.first, keys.count).any();
      if (!__any_sync(whole_warp, sees)) continue;
    }

    float scores[2][key_rows / 8][4] = {};
    add_row_products<width>(scores, shared.q + warp * warp_rows * width, shared.k[step % 2]);
    if constexpr (sloped) {
      const int origin = c.key_position[keys.first];
      const float slope = c.slopes[head];
      float position[2][2];
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        const int r = row + 8 * i;
        position[i / 2][i % 2] = static_cast<float>(c.query_position[tile.first + (r < tile.count ? r : 0)] - origin);
      }
      LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
        LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
          const int key = 8 * j + channel + e;
          const float key_position = static_cast<float>(c.key_position[keys.first + (key < keys.count ? key : 0)] - origin);
          LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
            float& score = scores[i / 2][j][i % 2 * 2 + e];
            score = score * (c.scale * log2_e) - slope * (position[i / 2][i % 2] - key_position);
          }
        }
      }
    }
    if (!whole) {
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        const int r = row + 8 * i;
        const SeenKeys seen(r < tile.count ? c.ranges[tile.first + r] : RowRange{0, 0, 0, 0}, keys.first, keys.count);
        LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
            if (!seen(8 * j + channel + e)) scores[i / 2][j][i % 2 * 2 + e] = -infinity;
          }
        }
      }
    }

    float shrink[2][2];
    bool grown = false;
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
      LEXRING_UNROLL for (int half = 0; half < 2; ++half) {
        float top = maximum[i][half];
        LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) top = fmaxf(top, fmaxf(scores[i][j][2 * half], scores[i][j][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 1));
        top = fmaxf(top, __shfl_xor_sync(whole_warp, top, 2));
        const float offset = (top == -infinity ? 0.0F : top) * factor;
        shrink[i][half] = exp2_fast(maximum[i][half] * factor - offset);
        grown = grown || top != maximum[i][half];
        maximum[i][half] = top;
        float sum = 0;
        LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
          LEXRING_UNROLL for (int e = 2 * half; e < 2 * half + 2; ++e) {
            scores[i][j][e] = exp2_fast(fmaf(scores[i][j][e], factor, -offset));
            sum += scores[i][j][e];
          }
        }
        total[i][half] = total[i][half] * shrink[i][half] + sum;
      }
    }
    if (__any_sync(whole_warp, grown)) {  // rare after the first tiles
      LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
        LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 4; ++e) sums[i][j][e] *= shrink[i][e / 2];
        }
      }
    }
    unsigned weights[2][key_rows / 16][4];
    pack_left(scores, weights);
    add_weighted_rows<width>(sums, weights, shared.v[step % 2]);
  }

  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    float& sum = total[i / 2][i % 2];
    sum += __shfl_xor_sync(whole_warp, sum, 1);
    sum += __shfl_xor_sync(whole_warp, sum, 2);
    const int r = row + 8 * i;
    const std::int64_t at = static_cast<std::int64_t>(tile.first + r) * c.heads + head;
    const float natural = maximum[i / 2][i % 2] * (sloped ? ln_2 : c.scale);
    if (lane % 4 != 0 || r >= tile.count) continue;
    if (c.last) c.lse[at] = sum > 0 ? natural + logf(sum) : -infinity;
    else c.state_maximum[at] = natural, c.state_sum[at] = sum;
  }
  if (c.last) return write_output<width>(sums, total, shared.q + warp * warp_rows * width, c, tile.first + warp * warp_rows, tile.count - warp * warp_rows, head);
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const int r = row + 8 * i;
    if (r >= tile.count) continue;
    float* to = c.state_output + (static_cast<std::int64_t>(tile.first + r) * c.heads + head) * c.width + channel;
    LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
      if (8 * j + channel < c.width) store<2>(to + 8 * j, Floats<2>{{sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]}});
    }
  }
}

template <int width>
void start(const Gpu& gpu, const ForwardArguments& arguments) {
  const dim3 blocks(static_cast<unsigned>(arguments.tiles), static_cast<unsigned>(arguments.heads));
  launch(gpu.stream, blocks, threads, sizeof(ForwardShared<width>), arguments.slopes != nullptr ? flash_forward<width, true> : flash_forward<width, false>,
         arguments);
}

}  // namespace

bool flash_supports(const AttentionSpec& spec, Dtype working) {
  return working == Dtype::bf16 && spec.normalizer == Normalizer::softmax && spec.head_width <= 128 && spec.head_width % 2 == 0 && spec.scale > 0 &&
         spec.query_factor.empty() && !spec.distance_bias.defined();
}

void flash_attention(const Gpu& gpu, const AttentionForward& call) {
  const AttentionSpec& spec = call.spec;
  const AttentionTables& tables = gpu.attention_tables.of(gpu, call, query_rows, key_rows);
  const std::int64_t width = ceil_div<std::int64_t>(spec.head_width, 32) * 32;
  const HeadRows q = turned_rows(gpu, call.q, spec.heads, width, call.query_rotary, tables.query_distance, tables.decay);
  const HeadRows k = turned_rows(gpu, call.k, spec.kv_heads, width, call.key_rotary, tables.key_distance, tables.decay);
  const HeadRows v = turned_rows(gpu, call.v, spec.kv_heads, width, {}, {}, {});
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
                             .heads = static_cast<int>(spec.heads),
                             .group = static_cast<int>(spec.heads / spec.kv_heads),
                             .width = static_cast<int>(spec.head_width),
                             .scale = static_cast<float>(spec.scale),
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
    arguments.query_position = tables.query_position.data<std::int32_t>(), arguments.key_position = tables.key_position.data<std::int32_t>();
    arguments.slopes = tables.slopes.data<float>();
  }
  if (!call.stage.first || !call.stage.last) {
    arguments.state_output = call.state.output.data<float>();
    arguments.state_maximum = call.state.maximum.data<float>(), arguments.state_sum = call.state.sum.data<float>();
  }
  if (call.stage.last) arguments.output = call.output.data<bfloat16>(), arguments.lse = call.lse.data<float>();
  arguments.vectors = spec.head_width % 8 == 0 && aligned(arguments.output);
  switch (width) {
    case 32: return start<32>(gpu, arguments);
    case 64: return start<64>(gpu, arguments);
    case 96: return start<96>(gpu, arguments);
    default: return start<128>(gpu, arguments);
  }
}

}  // namespace lexring::cuda
