#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/attention_flash_tiles.h"

// Two kernels, without atomics: gradients of queries by tile of queries (3 products), of keys and values by tile of keys (4 products). One kernel
// that adds its part of dq to memory in a fixed order of key tiles would need 5: it saves the second q k^T and dO v^T, 2 of 7, for f32 dq traffic of
// 8 bytes per query channel and key tile and the waiting that the order needs. To be judged on a device.

namespace lexring::cuda {
namespace {

using namespace flash;

constexpr int tile_rows = 128;  ///< of both sides: one tiling for both kernels, so that rows turned to their tile's base serve both

struct BackwardArguments {
  HeadView q, k, v, doutput;
  const QueryTile* query_tiles;
  const KeyTile* key_tiles;
  const RowRange* ranges;
  const LogDecay* decay;                             ///< null: none
  const std::int32_t *query_position, *key_position;  ///< with slopes
  const float* slopes;
  int query_tiles_count, key_tiles_count, heads, group, width;
  float scale;         ///< of scores, natural; slopes are in base 2
  const float *lse, *delta;
  bool query_first, key_first;  ///< nothing is added to what the gradients below hold
  float *dq, *dk, *dv;          ///< [N, H * E], [M, K * E], [M, K * E] of turned rows
};

/// log2 of the sum of a row's weights, such that a row that sees nothing, or is none, has weights 0.
__device__ float binary_lse(float lse) { return lse == -infinity ? infinity : lse * log2_e; }

/// Writes rows of a gradient, in the units and the base of the turned rows: sums * scale * 2^(decay * distance), added to what is there unless `first`.
template <int width>
__device__ void write_gradient(const float (&sums)[2][width / 8][4], int count, float scale, const LogDecay* decay, int distance, bool first, int own,
                               std::int64_t stride, float* to) {
  const int lane = anew(static_cast<int>(threadIdx.x)) % warp_size;
  LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
    const int channel = 8 * j + lane % 4 * 2;
    if (channel >= own) continue;
    const float factor = scale * (decay != nullptr ? decay_over(decay[channel / 2], distance) : 1.0F);
    LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
      const int r = lane / 4 + 16 * (i / 2) + 8 * (i % 2);
      if (r >= count) continue;
      float* at = to + r * stride + channel;
      Floats<2> x{{sums[i / 2][j][i % 2 * 2] * factor, sums[i / 2][j][i % 2 * 2 + 1] * factor}};
      if (!first) {
        const Floats<2> old = load<2>(at);
        x[0] += old[0], x[1] += old[1];
      }
      store<2>(at, x);
    }
  }
}

/// Sums counted from one base are counted from another, `distance` positions on.
template <int width>
__device__ void decay_sums(float (&sums)[2][width / 8][4], const LogDecay* decay, int own, int distance) {
  const int first = anew(static_cast<int>(threadIdx.x)) % 4 * 2;
  LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
    const int channel = 8 * j + first;
    const float factor = channel < own ? decay_over(decay[channel / 2], distance) : 1.0F;
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
      LEXRING_UNROLL for (int e = 0; e < 4; ++e) sums[i][j][e] *= factor;
    }
  }
}

// ---- Gradients of queries

namespace queries {

constexpr int threads = 128, key_rows = 32;  // keys at a time: so few because scores, their gradients and dq share the registers

template <int width>
struct Shared {
  alignas(128) bfloat16 q[tile_rows * width];
  bfloat16 doutput[tile_rows * width];
  bfloat16 k[2][key_rows * width], v[2][key_rows * width];
};

/// The next keys to meet: a part of a tile.
struct Keys {
  int step, first, rest;  ///< index in the walk, first row, rows from there to the tile's end

  __device__ void enter(const KeyTile* tiles, const KeyWalk& walk, int at) {
    step = at;
    if (at >= walk.count) return;
    const KeyTile& tile = tiles[walk[at]];
    first = tile.first, rest = tile.count;
  }
  __device__ void advance(const KeyTile* tiles, const KeyWalk& walk) {
    if (rest <= key_rows) return enter(tiles, walk, step + 1);
    first += key_rows, rest -= key_rows;
  }
};

/// One tile of 128 queries of one head, 32 rows per warp, against all keys that they see, 32 at a time: s = q k^T, p = 2^(s - lse), dp = dO v^T,
/// ds = p (dp - delta), dq += ds k.
///
/// Floor: 6 * 128 * 32 * width operations per step over the tensor peak. Shared memory: per warp 4 ldmatrix (512 bytes) for 8 mma in the first two
/// products, 2 for 8 in the third: 213 bytes per mma, 1.7 cycles of a multiprocessor.
template <int width, bool sloped>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2) flash_backward_queries(const BackwardArguments c) {
  auto& shared = shared_memory<Shared<width>>();
  const QueryTile& tile = c.query_tiles[c.query_tiles_count - 1 - static_cast<int>(blockIdx.x)];
  const KeyWalk walk(tile);
  const int head = static_cast<int>(blockIdx.y), key_head = head / c.group;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size;
  const int row = warp * warp_rows + lane / 4, column = lane % 4 * 2;  // of this thread's first sums
  const float factor = sloped ? 1.0F : c.scale * log2_e;  // with slopes scores are in base 2 already

  const auto load_keys = [&](const Keys& keys, int stage) {
    load_tile<width, key_rows, threads>(shared.k[stage], c.k.at(key_head, keys.first), c.k.row_stride, keys.rest);
    load_tile<width, key_rows, threads>(shared.v[stage], c.v.at(key_head, keys.first), c.v.row_stride, keys.rest);
    cp_async_commit();
  };
  Keys keys{};
  keys.enter(c.key_tiles, walk, 0);
  Keys next = keys;
  if (walk.count > 0) {
    if (c.decay == nullptr) load_tile<width, tile_rows, threads>(shared.q, c.q.at(head, tile.first), c.q.row_stride, tile.count);
    load_tile<width, tile_rows, threads>(shared.doutput, c.doutput.at(head, tile.first), c.doutput.row_stride, tile.count);
    load_keys(keys, 0);
    next.advance(c.key_tiles, walk);
  }
  float lse[4], delta[4];
  LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
    const int r = row + 8 * i;
    const std::int64_t at = static_cast<std::int64_t>(tile.first + r) * c.heads + head;
    lse[i] = r < tile.count ? binary_lse(c.lse[at]) : infinity;
    delta[i] = r < tile.count ? c.delta[at] : 0.0F;
  }
  float sums[2][width / 8][4] = {};
  int base = -1;
  const auto advance = [&] {  // the record is read well before it is needed
    keys = next;
    if (next.step < walk.count) next.advance(c.key_tiles, walk);
  };
  const int whole_first = tile.whole_first, whole_last = tile.whole_last;
  for (int stage = 0; keys.step < walk.count; advance(), stage ^= 1) {
    cp_async_wait<0>();
    __syncthreads();  // these keys are here, and nobody reads those before
    if (next.step < walk.count) load_keys(next, stage ^ 1);
    if (c.decay != nullptr && c.key_tiles[walk[keys.step]].base != base) {
      const int key_base = c.key_tiles[walk[keys.step]].base;
      if (base >= 0) decay_sums<width>(sums, c.decay, c.width, key_base - base);
      base = key_base;
      load_decayed_tile<width, tile_rows, threads>(shared.q, c.q.at(head, tile.first), c.q.row_stride, tile.count, c.decay, c.width / 2, tile.base - base);
      __syncthreads();
    }
    const int count = keys.rest < key_rows ? keys.rest : key_rows;
    const bool whole = count == key_rows && keys.first >= whole_first && keys.first + key_rows <= whole_last;
    if (!whole) {
      const int mine = warp * warp_rows + lane;
      const bool sees = mine < tile.count && SeenKeys(c.ranges[tile.first + mine], keys.first, count).any();
      if (!__any_sync(whole_warp, sees)) continue;
    }

    float scores[2][key_rows / 8][4] = {}, dscores[2][key_rows / 8][4] = {};
    add_row_products<width>(scores, shared.q + warp * warp_rows * width, shared.k[stage]);
    add_row_products<width>(dscores, shared.doutput + warp * warp_rows * width, shared.v[stage]);
    if constexpr (sloped) {
      const int origin = c.key_position[keys.first];
      const float slope = c.slopes[head];
      float position[4];
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        const int r = row + 8 * i;
        position[i] = static_cast<float>(c.query_position[tile.first + (r < tile.count ? r : 0)] - origin);
      }
      LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
        LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
          const int key = 8 * j + column + e;
          const float key_position = static_cast<float>(c.key_position[keys.first + (key < count ? key : 0)] - origin);
          LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
            float& score = scores[i / 2][j][i % 2 * 2 + e];
            score = score * (c.scale * log2_e) - slope * (position[i] - key_position);
          }
        }
      }
    }
    if (!whole) {
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        const int r = row + 8 * i;
        const SeenKeys seen(r < tile.count ? c.ranges[tile.first + r] : RowRange{0, 0, 0, 0}, keys.first, count);
        LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
            if (!seen(8 * j + column + e)) scores[i / 2][j][i % 2 * 2 + e] = -infinity;
          }
        }
      }
    }
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
      LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
        LEXRING_UNROLL for (int e = 0; e < 4; ++e) {
          const int r = 2 * i + e / 2;
          scores[i][j][e] = exp2_fast(fmaf(scores[i][j][e], factor, -lse[r])) * (dscores[i][j][e] - delta[r]);
        }
      }
    }
    unsigned left[2][key_rows / 16][4];
    pack_left(scores, left);
    add_weighted_rows<width>(sums, left, shared.k[stage]);
  }
  const std::int64_t stride = static_cast<std::int64_t>(c.heads) * c.width;
  write_gradient<width>(sums, tile.count - warp * warp_rows, c.scale, c.decay, base < 0 ? 0 : tile.base - base, c.query_first, c.width, stride,
                        c.dq + (tile.first + warp * warp_rows) * stride + head * c.width);
}

}  // namespace queries

// ---- Gradients of keys and values

namespace keys {

constexpr int threads = 256, query_rows = 64, half_block = threads / 2;

struct Statistics {
  float lse[query_rows], delta[query_rows];
};

template <int width>
struct Shared {
  alignas(128) bfloat16 resident[2][tile_rows * width];  ///< k and v
  bfloat16 streamed[2][2][query_rows * width];           ///< by stage: q and dO
  alignas(16) unsigned weights[2 * query_rows / 16][half_block][4];  ///< p from the warps that make it to those that need it, as registers
  Statistics statistics[2];
};

/// The next queries to meet: a part of a tile, of one head. Tiles descend, so that decay from one to the next never grows; the heads of a group meet
/// a tile one after the other.
struct Queries {
  int tile, member;  ///< index of the tile (-1: no more), head within the group
  int first, rest;   ///< first row, rows from there to the tile's end

  __device__ void enter(const QueryTile* tiles, const KeyTile& keys, int key_index, int at) {
    tile = at;
    while (tile >= keys.tiles_begin) {  // tiles in between may not meet these keys
      const QueryTile& q = tiles[tile];
      if ((key_index >= q.tiles_begin && key_index < q.tiles_end) || (key_index >= q.sink_tiles_begin && key_index < q.sink_tiles_end)) {
        return begin(q, 0);
      }
      --tile;
    }
    tile = -1;
  }
  __device__ void begin(const QueryTile& q, int of_group) { member = of_group, first = q.first, rest = q.count; }
  __device__ void advance(const QueryTile* tiles, const KeyTile& keys, int key_index, int group) {
    if (rest > query_rows) first += query_rows, rest -= query_rows;
    else if (member + 1 < group) begin(tiles[tile], member + 1);
    else enter(tiles, keys, key_index, tile - 1);
  }
};

/// One tile of 128 keys of one key head against all queries that see one of them, 64 at a time, of all heads of its group. Two warps share 32 keys: the
/// first makes s^T = k q^T, p = 2^(s - lse) and dv += p^T dO, the second dp^T = v dO^T, ds = p (dp - delta) and dk += ds^T q. Each has one product of
/// rows and one of weights, and 32 rows of one gradient in registers; p passes from the first to the second in shared memory, in bf16.
///
/// Floor: 8 * 128 * 64 * width operations per step over the tensor peak. Shared memory: per warp 6 ldmatrix (512 bytes) for 16 mma in the first product,
/// 2 for 8 in the second, and 16 KiB of p written and read: 160 bytes per mma and 16 at width 128, 1.4 cycles of a multiprocessor.
template <int width, bool sloped>
__global__ void __launch_bounds__(threads, width <= 32 ? 2 : 1) flash_backward_keys(const BackwardArguments c) {
  auto& shared = shared_memory<Shared<width>>();
  const int key_index = static_cast<int>(blockIdx.x);  // causal: those with most queries first
  const KeyTile& tile = c.key_tiles[key_index];
  const int key_head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x), side = thread / half_block, warp = thread % half_block / warp_size, lane = thread % warp_size;
  const int row = warp * warp_rows + lane / 4, column = lane % 4 * 2;  // of this thread's first sums
  const float factor = sloped ? 1.0F : c.scale * log2_e;  // with slopes scores are in base 2 already

  const auto load_queries = [&](const Queries& queries, int stage) {
    const int head = key_head * c.group + queries.member;
    load_tile<width, query_rows, threads>(shared.streamed[stage][0], c.q.at(head, queries.first), c.q.row_stride, queries.rest);
    load_tile<width, query_rows, threads>(shared.streamed[stage][1], c.doutput.at(head, queries.first), c.doutput.row_stride, queries.rest);
    cp_async_commit();
  };
  const auto statistic = [&](const Queries& queries) {  // of thread % 64
    const int r = thread % query_rows;
    const bool inside = r < queries.rest;
    const std::int64_t at = static_cast<std::int64_t>(queries.first + r) * c.heads + key_head * c.group + queries.member;
    if (thread < query_rows) return inside ? binary_lse(c.lse[at]) : infinity;
    return inside && thread < 2 * query_rows ? c.delta[at] : 0.0F;
  };
  const auto store_statistic = [&](float value, int stage) {
    if (thread < query_rows) shared.statistics[stage].lse[thread] = value;
    else if (thread < 2 * query_rows) shared.statistics[stage].delta[thread - query_rows] = value;
  };
  Queries queries{};
  queries.enter(c.query_tiles, tile, key_index, tile.tiles_end - 1);
  Queries next = queries;
  if (queries.tile >= 0) {
    if (c.decay == nullptr) load_tile<width, tile_rows, threads>(shared.resident[0], c.k.at(key_head, tile.first), c.k.row_stride, tile.count);
    load_tile<width, tile_rows, threads>(shared.resident[1], c.v.at(key_head, tile.first), c.v.row_stride, tile.count);
    load_queries(queries, 0);
    store_statistic(statistic(queries), 0);
    next.advance(c.query_tiles, tile, key_index, c.group);
  }
  float sums[2][width / 8][4] = {};
  int base = -1;
  const auto advance = [&] {  // the record is read well before it is needed
    queries = next;
    if (next.tile >= 0) next.advance(c.query_tiles, tile, key_index, c.group);
  };
  for (int stage = 0; queries.tile >= 0; advance(), stage ^= 1) {
    cp_async_wait<0>();
    __syncthreads();  // these queries are here, and nobody reads those before
    float next_statistic = 0;
    if (next.tile >= 0) {
      load_queries(next, stage ^ 1);
      next_statistic = statistic(next);
    }
    const QueryTile& query_tile = c.query_tiles[queries.tile];
    if (c.decay != nullptr && query_tile.base != base) {
      if (base >= 0 && side == 1) decay_sums<width>(sums, c.decay, c.width, base - query_tile.base);
      base = query_tile.base;
      load_decayed_tile<width, tile_rows, threads>(shared.resident[0], c.k.at(key_head, tile.first), c.k.row_stride, tile.count, c.decay, c.width / 2,
                                                   base - tile.base);
      __syncthreads();
    }
    const int count = queries.rest < query_rows ? queries.rest : query_rows, first_key = tile.first + warp * warp_rows;
    const bool whole = tile.first >= query_tile.whole_first && tile.first + tile.count <= query_tile.whole_last;
    bool meets = whole;
    if (!whole) {
      const auto sees = [&](int r) { return r < count && SeenKeys(c.ranges[queries.first + r], first_key, warp_rows).any(); };
      meets = __any_sync(whole_warp, sees(lane) || sees(lane + warp_size));
    }

    float scores[2][query_rows / 8][4] = {};  // of the second side: dp
    unsigned left[2][query_rows / 16][4];
    if (meets) {
      add_row_products<width>(scores, shared.resident[side] + warp * warp_rows * width, shared.streamed[stage][side]);
      if (side == 0) {
        if constexpr (sloped) {
          const int origin = c.key_position[tile.first];
          const float slope = c.slopes[key_head * c.group + queries.member];
          float position[4];
          LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
            const int r = row + 8 * i;
            position[i] = static_cast<float>(c.key_position[tile.first + (r < tile.count ? r : 0)] - origin);
          }
          LEXRING_UNROLL for (int j = 0; j < query_rows / 8; ++j) {
            LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
              const int query = 8 * j + column + e;
              const float query_position = static_cast<float>(c.query_position[queries.first + (query < count ? query : 0)] - origin);
              LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
                float& score = scores[i / 2][j][i % 2 * 2 + e];
                score = score * (c.scale * log2_e) - slope * (query_position - position[i]);
              }
            }
          }
        }
        if (!whole) {
          LEXRING_UNROLL for (int j = 0; j < query_rows / 8; ++j) {
            LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
              const int query = 8 * j + column + e;
              const SeenKeys seen(query < count ? c.ranges[queries.first + query] : RowRange{0, 0, 0, 0}, first_key, warp_rows);
              LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
                if (!seen(lane / 4 + 8 * i)) scores[i / 2][j][i % 2 * 2 + e] = -infinity;
              }
            }
          }
        }
        LEXRING_UNROLL for (int j = 0; j < query_rows / 8; ++j) {
          const Floats<2> lse = load<2>(shared.statistics[stage].lse + 8 * j + column);
          LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
            LEXRING_UNROLL for (int e = 0; e < 4; ++e) scores[i][j][e] = exp2_fast(fmaf(scores[i][j][e], factor, -lse[e % 2]));
          }
        }
        pack_left(scores, left);
        LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
          LEXRING_UNROLL for (int j = 0; j < query_rows / 16; ++j) {
            store_registers(shared.weights[i * query_rows / 16 + j][thread % half_block], left[i][j]);
          }
        }
      }
    }
    __syncthreads();  // the weights are there
    if (meets) {
      if (side == 1) {
        LEXRING_UNROLL for (int j = 0; j < query_rows / 8; ++j) {
          const Floats<2> delta = load<2>(shared.statistics[stage].delta + 8 * j + column);
          LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
            LEXRING_UNROLL for (int e = 0; e < 4; ++e) scores[i][j][e] -= delta[e % 2];
          }
        }
        LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
          LEXRING_UNROLL for (int j = 0; j < query_rows / 16; ++j) {
            unsigned weights[4];
            load_registers(shared.weights[i * query_rows / 16 + j][thread % half_block], weights);
            LEXRING_UNROLL for (int e = 0; e < 8; ++e) {
              const unsigned two = weights[e / 2];
              scores[i][2 * j + e / 4][e % 4] *= __uint_as_float(e % 2 == 0 ? two << 16 : two & 0xffff0000U);
            }
          }
        }
        pack_left(scores, left);
      }
      add_weighted_rows<width>(sums, left, shared.streamed[stage][1 - side]);
    }
    if (next.tile >= 0) store_statistic(next_statistic, stage ^ 1);
  }
  const std::int64_t stride = static_cast<std::int64_t>(c.heads / c.group) * c.width, at = (tile.first + warp * warp_rows) * stride + key_head * c.width;
  const int count = tile.count - warp * warp_rows;
  if (side == 0) write_gradient<width>(sums, count, 1.0F, nullptr, 0, c.key_first, c.width, stride, c.dv + at);
  else write_gradient<width>(sums, count, c.scale, c.decay, base < 0 ? 0 : base - tile.base, c.key_first, c.width, stride, c.dk + at);
}

}  // namespace keys

template <int width>
void start(const Gpu& gpu, const BackwardArguments& arguments) {
  const bool sloped = arguments.slopes != nullptr;
  const dim3 query_blocks(static_cast<unsigned>(arguments.query_tiles_count), static_cast<unsigned>(arguments.heads));
  launch(gpu.stream, query_blocks, queries::threads, sizeof(queries::Shared<width>),
         sloped ? queries::flash_backward_queries<width, true> : queries::flash_backward_queries<width, false>, arguments);
  const dim3 key_blocks(static_cast<unsigned>(arguments.key_tiles_count), static_cast<unsigned>(arguments.heads / arguments.group));
  launch(gpu.stream, key_blocks, keys::threads, sizeof(keys::Shared<width>),
         sloped ? keys::flash_backward_keys<width, true> : keys::flash_backward_keys<width, false>, arguments);
}

/// Where a kernel adds up a gradient: the state between stages, which the last one uses up.
Tensor accumulator(const Gpu& gpu, const Tensor& state, std::int64_t rows, std::int64_t width) {
  return state.defined() ? state : Tensor(gpu.runtime, {rows, width}, Dtype::f32);
}

}  // namespace

void flash_attention_backward(const Gpu& gpu, const AttentionBackward& call) {
  const AttentionSpec& spec = call.spec;
  const AttentionTables& tables = gpu.attention_tables.of(gpu, call, tile_rows, tile_rows);
  const std::int64_t width = ceil_div<std::int64_t>(spec.head_width, 32) * 32;
  const HeadRows q = turned_rows(gpu, call.q, spec.heads, width, call.query_rotary, tables.query_distance, tables.decay);
  const HeadRows k = turned_rows(gpu, call.k, spec.kv_heads, width, call.key_rotary, tables.key_distance, tables.decay);
  const HeadRows v = turned_rows(gpu, call.v, spec.kv_heads, width, {}, {}, {});
  const HeadRows doutput = turned_rows(gpu, call.doutput, spec.heads, width, {}, {}, {});
  const Tensor dq = accumulator(gpu, call.dq_state, call.queries.rows(), spec.heads * spec.head_width);
  const Tensor dk = accumulator(gpu, call.dk_state, call.keys.rows(), spec.kv_heads * spec.head_width);
  const Tensor dv = accumulator(gpu, call.dv_state, call.keys.rows(), spec.kv_heads * spec.head_width);
  BackwardArguments arguments{.q = HeadView(q),
                              .k = HeadView(k),
                              .v = HeadView(v),
                              .doutput = HeadView(doutput),
                              .query_tiles = tables.queries(),
                              .key_tiles = tables.keys(),
                              .ranges = tables.rows(),
                              .decay = nullptr,
                              .query_position = nullptr,
                              .key_position = nullptr,
                              .slopes = nullptr,
                              .query_tiles_count = tables.query_tiles_count,
                              .key_tiles_count = tables.key_tiles_count,
                              .heads = static_cast<int>(spec.heads),
                              .group = static_cast<int>(spec.heads / spec.kv_heads),
                              .width = static_cast<int>(spec.head_width),
                              .scale = static_cast<float>(spec.scale),
                              .lse = call.lse.data<float>(),
                              .delta = call.delta.data<float>(),
                              .query_first = call.query_stage.first,
                              .key_first = call.key_stage.first,
                              .dq = dq.data<float>(),
                              .dk = dk.data<float>(),
                              .dv = dv.data<float>()};
  if (tables.decay.defined()) arguments.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  if (tables.slopes.defined()) {
    arguments.query_position = tables.query_position.data<std::int32_t>(), arguments.key_position = tables.key_position.data<std::int32_t>();
    arguments.slopes = tables.slopes.data<float>();
  }
  switch (width) {
    case 32: start<32>(gpu, arguments); break;
    case 64: start<64>(gpu, arguments); break;
    case 96: start<96>(gpu, arguments); break;
    default: start<128>(gpu, arguments);
  }
  if (call.query_stage.last) turn_back(gpu, dq, spec.heads, call.query_rotary, tables.query_distance, tables.decay, call.dq);
  if (call.key_stage.last) {
    turn_back(gpu, dk, spec.kv_heads, call.key_rotary, tables.key_distance, tables.decay, call.dk);
    turn_back(gpu, dv, spec.kv_heads, {}, {}, {}, call.dv);
  }
}

}  // namespace lexring::cuda
