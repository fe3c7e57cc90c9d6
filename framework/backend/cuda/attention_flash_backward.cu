#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/attention_flash_tiles.h"
#include "framework/backend/cuda/attention_turn.h"

// Two kernels, without atomics: gradients of queries by tile of queries (3 products), of keys and values by tile of
// keys (4 products). One kernel that adds its part of dq to memory in a fixed order of key tiles would need 5: it saves
// the second q k^T and dO v^T, 2 of 7, for f32 dq traffic of 8 bytes per query channel and key tile and the waiting
// that the order needs. To be judged on a device.

namespace lexring::cuda {
namespace {

using namespace flash;

constexpr int tile_rows =
    128;  ///< of both sides: one tiling for both kernels, so that rows turned to their tile's base serve both

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
__device__ float binary_lse(float lse) { return lse == -infinity ? infinity : lse * log2_e; }

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
    const float factor = scale * (distance != 0 ? decay_over(decay[pair], distance) : 1.0F);
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
    const float factor = channel < own ? decay_over(decay[channel / 2], distance) : 1.0F;
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) { LEXRING_UNROLL for (int e = 0; e < 4; ++e) sums[i][j][e] *= factor; }
  }
}

// ---- Gradients of queries

namespace queries {

constexpr int threads = 128,
              key_rows = 32;  // keys at a time: so few because scores, their gradients and dq share the registers
constexpr int parts = tile_rows / key_rows;  // of a tile of keys; those beyond its rows are empty

template <int width>
struct Shared {
  alignas(128) bfloat16 q[tile_rows * width];
  bfloat16 doutput[tile_rows * width];
  bfloat16 k[2][key_rows * width], v[2][key_rows * width];
  alignas(
      16) QueryTile tile;  ///< what the loop over keys needs to know of the block lies here: it would take registers
  alignas(16) KeyTile keys[4];  ///< tile i of the walk: keys[i % 4], from one tile before it to one after
  float lse[tile_rows], delta[tile_rows];
};

/// One tile of 128 queries of one head, 32 rows per warp, against all keys that they see, 32 at a time: s = q k^T, p =
/// 2^(s - lse), dp = dO v^T, ds = p (dp - delta), dq += ds k.
///
/// Floor: 6 * 128 * 32 * width operations per step over the tensor peak. Shared memory: per warp 4 ldmatrix (512 bytes)
/// for 8 mma in the first two products, 2 for 8 in the third: 213 bytes per mma, 1.7 cycles of a multiprocessor.
template <int width, bool sloped>
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2) flash_backward_queries(const BackwardArguments c) {
  auto& shared = shared_memory<Shared<width>>();
  const auto this_tile = [&]() -> const QueryTile& {
    return c.query_tiles[c.query_tiles_count - 1 - anew(static_cast<int>(blockIdx.x))];
  };
  const auto this_key_head = [] { return anew(static_cast<int>(blockIdx.z)); };
  const auto this_head = [&] { return this_key_head() * c.group + anew(static_cast<int>(blockIdx.y)); };
  const auto first_row = [] { return this_thread() / warp_size * warp_rows; };  // of this warp
  const auto load_keys = [&](const KeyTile& keys, int part) {
    const int first = keys.first + part % parts * key_rows, count = keys.count - part % parts * key_rows;
    if (count > 0) {
      load_tile<width, key_rows, threads>(shared.k[part % 2], c.k.at(this_key_head(), first), c.k.row_stride, count);
      load_tile<width, key_rows, threads>(shared.v[part % 2], c.v.at(this_key_head(), first), c.v.row_stride, count);
    }
  };
  bool more = false;
  {
    const QueryTile& tile = this_tile();
    const KeyWalk walk(tile);
    more = walk.count > 0;
    if (more) {
      if (c.key_tiles[walk[0]].base == tile.base)
        load_tile<width, tile_rows, threads>(shared.q, c.q.at(this_head(), tile.first), c.q.row_stride, tile.count);
      load_tile<width, tile_rows, threads>(shared.doutput, c.doutput.at(this_head(), tile.first), c.doutput.row_stride,
                                           tile.count);
      load_keys(c.key_tiles[walk[0]], 0);
      copy_record(shared.tile, tile);
      copy_record(shared.keys[0], c.key_tiles[walk[0]]);
      cp_async_commit();
    }
    const bool inside = this_thread() < tile.count;
    const std::int64_t at = static_cast<std::int64_t>(tile.first + this_thread()) * c.heads + this_head();
    shared.lse[this_thread()] = inside ? binary_lse(c.lse[at]) : infinity;
    shared.delta[this_thread()] = inside ? c.delta[at] : 0.0F;
  }
  float sums[2][width / 8][4] = {};
  LEXRING_UNROLL_ONCE for (int step = 0; more; ++step) {
    cp_async_wait<0>();
    __syncthreads();  // these keys are here, and nobody reads those before
    const KeyWalk walk(shared.tile);
    more = step + 1 < walk.count * parts;
    if (more) {
      const int next_tile = step / parts + 1;
      if (step % parts == 0 && next_tile < walk.count)
        copy_record(shared.keys[next_tile % 4], c.key_tiles[walk[next_tile]]);
      load_keys(shared.keys[(step + 1) / parts % 4], step + 1);
      cp_async_commit();
    }
    if (step % parts == 0) {
      const int base = shared.keys[step / parts % 4].base;
      const int before = step == 0 ? shared.tile.base : shared.keys[(step / parts + 3) % 4].base;
      if (base != before) {
        if (step > 0) decay_sums<width>(sums, c.decay, c.width, base - before);
        const QueryTile& tile = shared.tile;
        load_decayed_tile<width, tile_rows, threads>(shared.q, c.q.at(this_head(), tile.first), c.q.row_stride,
                                                     tile.count, c.decay, c.width / 2, tile.base - base);
        __syncthreads();
      }
    }
    const KeyTile& keys = shared.keys[step / parts % 4];
    const int first = keys.first + step % parts * key_rows, count = keys.count - step % parts * key_rows;
    const bool whole =
        count >= key_rows && first >= shared.tile.whole_first && first + key_rows <= shared.tile.whole_last;
    unsigned seen = 0;  // by row this_thread() of the tile
    if (!whole) {
      if (this_thread() < shared.tile.count)
        seen = seen_keys(c.ranges[shared.tile.first + this_thread()], first, count);
      if (!__any_sync(whole_warp, seen != 0)) continue;
    }

    float scores[2][key_rows / 8][4] = {}, dscores[2][key_rows / 8][4] = {};
    if constexpr (sloped) {  // products add to the slopes: before them there are registers for it
      const int origin = c.key_position[first];
      const float query_positions =
          position_from(origin, c.query_position + shared.tile.first, this_thread(), shared.tile.count);
      const float key_positions = position_from(origin, c.key_position + first, this_lane(), count);
      const float slope = c.slopes[this_head()] * c.inverse_scale;
      float position[4];
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) position[i] =
          __shfl_sync(whole_warp, query_positions, this_lane() / 4 + 8 * i);
      LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
        LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
          const float key_position = __shfl_sync(whole_warp, key_positions, 8 * j + this_lane() % 4 * 2 + e);
          LEXRING_UNROLL for (int i = 0; i < 4; ++i) scores[i / 2][j][i % 2 * 2 + e] =
              -slope * fabsf(key_position - position[i]);
        }
      }
    }
    add_row_products<width>(scores, shared.q + first_row() * width, shared.k[step % 2]);
    add_row_products<width>(dscores, shared.doutput + first_row() * width, shared.v[step % 2]);
    if (!whole) {
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        const unsigned bits = __shfl_sync(whole_warp, seen, this_lane() / 4 + 8 * i) >> this_lane() % 4 * 2;
        LEXRING_UNROLL for (int j = 0; j < key_rows / 8; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
            if ((bits >> (8 * j + e) & 1) == 0) scores[i / 2][j][i % 2 * 2 + e] = -infinity;
          }
        }
      }
    }
    const int first_sum = first_row() + this_lane() / 4;
    const WeightedRows<width> rows(shared.k[step % 2]);
    LEXRING_UNROLL for (int k = 0; k < key_rows / 16;
                        ++k) {  // 16 keys at a time, so that the next weights are made while these are multiplied
      unsigned weights[2][4];
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
        const float lse = shared.lse[first_sum + 8 * i], delta = shared.delta[first_sum + 8 * i];
        float w[4];
        LEXRING_UNROLL for (int e = 0; e < 4; ++e) {
          const int j = 2 * k + e / 2, at = i % 2 * 2 + e % 2;
          w[e] = exp2_fast(fmaf(scores[i / 2][j][at], c.binary_scale, -lse)) * (dscores[i / 2][j][at] - delta);
        }
        weights[i / 2][i % 2] = pack_bfloat16(w[0], w[1]), weights[i / 2][2 + i % 2] = pack_bfloat16(w[2], w[3]);
      }
      rows.add(sums, weights, k);
    }
  }
  const QueryTile& tile = this_tile();
  const int tiles = KeyWalk(tile).count, distance = tiles > 0 ? tile.base - shared.keys[(tiles + 3) % 4].base : 0;
  write_gradient<width>(sums, c.dq, tile.first + first_row(), tile.count - first_row(), this_head() * c.width, c.scale,
                        c.decay, distance);
}

}  // namespace queries

// ---- Gradients of keys and values

namespace keys {

constexpr int threads = 256, query_rows = 64, half_block = threads / 2;

/// The next queries to meet: a part of a tile, of one head. Tiles descend, so that decay from one to the next never
/// grows; the heads of a group meet a tile one after the other.
struct Queries {
  std::int32_t tile, member;                            ///< index of the tile (-1: no more), head within the group
  std::int32_t first, rest;                             ///< first row, rows from there to the tile's end
  std::int32_t whole_first, whole_last, base, padding;  ///< the tile's

  __device__ void enter(const QueryTile* tiles, const KeyTile& keys, int key_index, int at) {
    tile = at;
    while (tile >= keys.tiles_begin) {  // tiles in between may not meet these keys
      const QueryTile& q = tiles[tile];
      if ((key_index >= q.tiles_begin && key_index < q.tiles_end) ||
          (key_index >= q.sink_tiles_begin && key_index < q.sink_tiles_end)) {
        return begin(q, 0);
      }
      --tile;
    }
    tile = -1;
  }
  __device__ void begin(const QueryTile& q, int of_group) {
    member = of_group, first = q.first, rest = q.count;
    whole_first = q.whole_first, whole_last = q.whole_last, base = q.base;
  }
  __device__ void advance(const QueryTile* tiles, const KeyTile& keys, int key_index, int group) {
    if (rest > query_rows) first += query_rows, rest -= query_rows;
    else if (member + 1 < group) begin(tiles[tile], member + 1);
    else enter(tiles, keys, key_index, tile - 1);
  }
};

struct Statistics {
  float lse[query_rows], delta[query_rows];
};

template <int width>
struct Shared {
  alignas(128) bfloat16 resident[2][tile_rows * width];  ///< k and v
  bfloat16 q[2][query_rows * width],
      doutput[2][query_rows * width];  ///< of step i: q[i % 2], until the weights of the next are there
  alignas(16) unsigned weights[2 * query_rows / 16][half_block]
                              [4];  ///< p from the warps that make it to those that need it, as registers
  Statistics statistics[2];
  alignas(
      16) KeyTile tile;  ///< what the loop over queries needs to know of the block lies here: it would take registers
  alignas(16) Queries queries[4];  ///< of step i: queries[i % 4], from two steps before it to one after
};

/// One tile of 128 keys of one key head against all queries that see one of them, 64 at a time, of all heads of its
/// group. Two warps share 32 keys: the first makes s^T = k q^T, p = 2^(s - lse) and dv += p^T dO, the second dp^T = v
/// dO^T, ds = p (dp - delta) and dk += ds^T q. Each has one product of rows and one of weights, and 32 rows of one
/// gradient in registers; p passes from the first to the second in shared memory, in bf16. The second adds a step's
/// part of dk in the next step: tensor cores have that while the first makes exponentials.
///
/// Floor: 8 * 128 * 64 * width operations per step over the tensor peak. Shared memory: per warp 6 ldmatrix (512 bytes)
/// for 16 mma in the first product, 2 for 8 in the second, and 16 KiB of p written and read: 160 bytes per mma and 16
/// at width 128, 1.4 cycles of a multiprocessor.
template <int width, bool sloped>
__global__ void __launch_bounds__(threads, width <= 32 ? 2 : 1) flash_backward_keys(const BackwardArguments c) {
  constexpr bool delayed = width > 32;  // else two blocks fill each other's gaps, and have registers for no more
  auto& shared = shared_memory<Shared<width>>();
  const auto this_index = [] { return anew(static_cast<int>(blockIdx.x)); };  // causal: those with most queries first
  const auto this_key_head = [] { return anew(static_cast<int>(blockIdx.y)); };
  const auto this_row = [] { return this_thread() % half_block; };  // this thread's of the tile's
  const auto first_row = [] { return this_thread() % half_block / warp_size * warp_rows; };  // of this warp
  const int side = static_cast<int>(threadIdx.x) / half_block;

  const auto load_q = [&](const Queries& queries, int step) {
    const int head = this_key_head() * c.group + queries.member;
    load_tile<width, query_rows, threads>(shared.q[step % 2], c.q.at(head, queries.first), c.q.row_stride,
                                          queries.rest);
    cp_async_commit();
  };
  const auto load_doutput = [&](const Queries& queries, int step) {
    const int head = this_key_head() * c.group + queries.member;
    load_tile<width, query_rows, threads>(shared.doutput[step % 2], c.doutput.at(head, queries.first),
                                          c.doutput.row_stride, queries.rest);
    cp_async_commit();
  };
  const auto statistic =
      [&](const Queries& queries) {  // lse of the first 64 threads' rows, delta of the next 64 threads'
        const int thread = this_thread(), r = thread % query_rows;
        const bool inside = r < queries.rest;
        const std::int64_t at =
            static_cast<std::int64_t>(queries.first + r) * c.heads + this_key_head() * c.group + queries.member;
        if (thread < query_rows) return inside ? binary_lse(c.lse[at]) : infinity;
        return inside && thread < 2 * query_rows ? c.delta[at] : 0.0F;
      };
  const auto store_statistic = [&](float value, int stage) {
    const int thread = this_thread();
    if (thread < query_rows) shared.statistics[stage].lse[thread] = value;
    else if (thread < 2 * query_rows) shared.statistics[stage].delta[thread - query_rows] = value;
  };
  bool more = false;
  {
    const KeyTile& tile = c.key_tiles[this_index()];
    Queries queries{};
    queries.enter(c.query_tiles, tile, this_index(), tile.tiles_end - 1);
    more = queries.tile >= 0;
    if (more) {
      const int head = this_key_head();
      if (queries.base == tile.base)
        load_tile<width, tile_rows, threads>(shared.resident[0], c.k.at(head, tile.first), c.k.row_stride, tile.count);
      load_tile<width, tile_rows, threads>(shared.resident[1], c.v.at(head, tile.first), c.v.row_stride, tile.count);
      copy_record(shared.tile, tile);
      load_q(queries, 0);
      load_doutput(queries, 0);
      store_statistic(statistic(queries), 0);
      if (this_thread() == 0) {
        shared.queries[0] = queries;
        queries.advance(c.query_tiles, tile, this_index(), c.group);
        shared.queries[1] = queries;
      }
    }
  }
  float sums[2][width / 8][4] = {};
  unsigned dscores[query_rows / 16][2][4] = {};  // of the second side: those of the step before, for `pending`
  bool pending = false;
  const auto add_pending = [&](int before) {
    if (pending) {
      const WeightedRows<width> rows(shared.q[before % 2]);
      LEXRING_UNROLL for (int k = 0; k < query_rows / 16; ++k) rows.add(sums, dscores[k], k);
    }
    pending = false;
    LEXRING_UNROLL for (int i = 0; i < query_rows / 2; ++i) dscores[i / 8][i / 4 % 2][i % 4] =
        0;  // known, so that they take no registers meanwhile
  };
  int step = 0;
  LEXRING_UNROLL_ONCE for (; more; ++step) {
    cp_async_wait<0>();
    __syncthreads();  // these queries are here, and nobody reads those before
    const int stage = step % 2;
    more = shared.queries[(step + 1) % 4].tile >= 0;
    float next_statistic = 0;
    if (more) {
      load_doutput(shared.queries[(step + 1) % 4], step + 1);
      next_statistic = statistic(shared.queries[(step + 1) % 4]);
    }
    if (delayed) add_pending(step + 1);
    const Queries& queries = shared.queries[step % 4];
    const int base = queries.base, before = step == 0 ? shared.tile.base : shared.queries[(step + 3) % 4].base;
    if (base != before) {
      if (step > 0 && side == 1) decay_sums<width>(sums, c.decay, c.width, before - base);
      const KeyTile& tile = shared.tile;
      load_decayed_tile<width, tile_rows, threads>(shared.resident[0], c.k.at(this_key_head(), tile.first),
                                                   c.k.row_stride, tile.count, c.decay, c.width / 2, base - tile.base);
      __syncthreads();
    }
    const bool whole =
        shared.tile.first >= queries.whole_first && shared.tile.first + shared.tile.count <= queries.whole_last;
    bool meets = whole;
    unsigned seen[query_rows / warp_size] = {};  // of this warp's keys, by queries this_lane() + 32 w
    if (!whole) {
      LEXRING_UNROLL for (int w = 0; w < query_rows / warp_size; ++w) {
        const int query = this_lane() + w * warp_size;
        if (query < queries.rest)
          seen[w] = seen_keys(c.ranges[queries.first + query], shared.tile.first + first_row(), warp_rows);
      }
      meets = __any_sync(whole_warp, (seen[0] | seen[1]) != 0);
    }

    float scores[2][query_rows / 8][4] = {};  // of the second side: dp
    if (meets) {
      if constexpr (sloped) {  // products add to the slopes: before them there are registers for it
        if (side == 0) {
          const int origin = c.key_position[shared.tile.first];
          const float key_positions =
              position_from(origin, c.key_position + shared.tile.first, this_row(), shared.tile.count);
          const float slope = c.slopes[this_key_head() * c.group + queries.member] * c.inverse_scale;
          float position[4];
          LEXRING_UNROLL for (int i = 0; i < 4; ++i) position[i] =
              __shfl_sync(whole_warp, key_positions, this_lane() / 4 + 8 * i);
          LEXRING_UNROLL for (int w = 0; w < query_rows / warp_size; ++w) {
            const float query_positions =
                position_from(origin, c.query_position + queries.first, this_lane() + w * warp_size, queries.rest);
            LEXRING_UNROLL for (int j = 4 * w; j < 4 * w + 4; ++j) {
              LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
                const float query_position =
                    __shfl_sync(whole_warp, query_positions, 8 * (j % 4) + this_lane() % 4 * 2 + e);
                LEXRING_UNROLL for (int i = 0; i < 4; ++i) scores[i / 2][j][i % 2 * 2 + e] =
                    -slope * fabsf(position[i] - query_position);
              }
            }
          }
        }
      }
      add_row_products<width>(scores, shared.resident[side] + first_row() * width,
                              side == 0 ? shared.q[stage] : shared.doutput[stage]);
      if (side == 0) {
        if (!whole) {
          LEXRING_UNROLL for (int j = 0; j < query_rows / 8; ++j) {
            LEXRING_UNROLL for (int e = 0; e < 2; ++e) {
              const unsigned bits =
                  __shfl_sync(whole_warp, seen[j / 4], 8 * (j % 4) + this_lane() % 4 * 2 + e) >> this_lane() / 4;
              LEXRING_UNROLL for (int i = 0; i < 4; ++i) {
                if ((bits >> 8 * i & 1) == 0) scores[i / 2][j][i % 2 * 2 + e] = -infinity;
              }
            }
          }
        }
        LEXRING_UNROLL for (int k = 0; k < query_rows / 16; ++k) {
          LEXRING_UNROLL for (int j = 2 * k; j < 2 * k + 2; ++j) {
            const Floats<2> lse = load<2>(shared.statistics[stage].lse + 8 * j + this_lane() % 4 * 2);
            LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
              LEXRING_UNROLL for (int e = 0; e < 4; ++e) scores[i][j][e] =
                  exp2_fast(fmaf(scores[i][j][e], c.binary_scale, -lse[e % 2]));
            }
          }
          LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
            unsigned left[4];
            pack_left(scores[i][2 * k], scores[i][2 * k + 1], left);
            store_registers(shared.weights[i * query_rows / 16 + k][this_row()], left);
          }
        }
      }
    }
    if (more && this_thread() == threads - 1) {  // a thread that would wait now
      Queries after = shared.queries[(step + 1) % 4];
      after.advance(c.query_tiles, shared.tile, this_index(), c.group);
      shared.queries[(step + 2) % 4] = after;
    }
    __syncthreads();  // the weights are there, and nobody reads q of the step before
    if (more) load_q(shared.queries[(step + 1) % 4], step + 1);
    if (side == 0) {
      if (meets) {
        const WeightedRows<width> rows(shared.doutput[stage]);
        LEXRING_UNROLL for (int k = 0; k < query_rows / 16; ++k) {
          unsigned left[2][4];
          LEXRING_UNROLL for (int i = 0; i < 2; ++i) pack_left(scores[i][2 * k], scores[i][2 * k + 1], left[i]);
          rows.add(sums, left, k);
        }
      }
    } else if (meets) {
      pending = true;
      LEXRING_UNROLL for (int k = 0; k < query_rows / 16; ++k) {
        Floats<2> delta[2];
        LEXRING_UNROLL for (int j = 0; j < 2; ++j) delta[j] =
            load<2>(shared.statistics[stage].delta + 16 * k + 8 * j + this_lane() % 4 * 2);
        LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
          unsigned weights[4];
          load_registers(shared.weights[i * query_rows / 16 + k][this_row()], weights);
          LEXRING_UNROLL for (int e = 0; e < 8; ++e) {
            const unsigned two = weights[e / 2];
            float& score = scores[i][2 * k + e / 4][e % 4];
            score = __uint_as_float(e % 2 == 0 ? two << 16 : two & 0xffff0000U) * (score - delta[e / 4][e % 2]);
          }
          pack_left(scores[i][2 * k], scores[i][2 * k + 1], dscores[k][i]);
        }
      }
    }
    if (!delayed) add_pending(step);
    if (more) store_statistic(next_statistic, stage ^ 1);
  }
  add_pending(step + 1);
  const KeyTile& tile = c.key_tiles[this_index()];
  const int distance = step > 0 ? shared.queries[(step + 3) % 4].base - tile.base : 0;
  const int first = tile.first + first_row(), count = tile.count - first_row(), column = this_key_head() * c.width;
  if (side == 0) write_gradient<width>(sums, c.dv, first, count, column, 1.0F, nullptr, 0);
  else write_gradient<width>(sums, c.dk, first, count, column, c.scale, c.decay, distance);
}

}  // namespace keys

template <int width>
void start(const Gpu& gpu, const BackwardArguments& arguments) {
  const bool sloped = arguments.slopes != nullptr;
  const auto group = static_cast<unsigned>(arguments.group), key_heads = static_cast<unsigned>(arguments.heads) / group;
  const dim3 query_blocks(static_cast<unsigned>(arguments.query_tiles_count), group, key_heads);
  launch(gpu.stream, query_blocks, queries::threads, sizeof(queries::Shared<width>),
         sloped ? queries::flash_backward_queries<width, true> : queries::flash_backward_queries<width, false>,
         arguments);
  const dim3 key_blocks(static_cast<unsigned>(arguments.key_tiles_count), key_heads);
  launch(gpu.stream, key_blocks, keys::threads, sizeof(keys::Shared<width>),
         sloped ? keys::flash_backward_keys<width, true> : keys::flash_backward_keys<width, false>, arguments);
}

}  // namespace

void flash_attention_backward(const Gpu& gpu, const AttentionBackward& call) {
  const AttentionForm& form = call.form;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, tile_rows, tile_rows);
  const std::int64_t width = ceil_div<std::int64_t>(form.head_width, 32) * 32;
  const HeadRows q =
      turned_rows(gpu, call.q, form.heads, width, call.queries->rotary, tables.query_distance, tables.decay);
  const HeadRows k =
      turned_rows(gpu, call.k, form.kv_heads, width, call.keys->rotary, tables.key_distance, tables.decay);
  const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, {}, {}, {});
  const HeadRows doutput = turned_rows(gpu, call.doutput, form.heads, width, {}, {}, {});
  const Turn query_turn(call.queries->rotary, tables.query_distance, tables.decay, form.head_width),
      key_turn(call.keys->rotary, tables.key_distance, tables.decay, form.head_width),
      no_turn({}, {}, {}, form.head_width);
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
                              .heads = static_cast<int>(form.heads),
                              .group = static_cast<int>(form.heads / form.kv_heads),
                              .width = static_cast<int>(form.head_width),
                              .scale = static_cast<float>(form.scale),
                              .binary_scale = static_cast<float>(form.scale) * log2_e,
                              .inverse_scale = 1.0F / (static_cast<float>(form.scale) * log2_e),
                              .lse = call.lse.data<float>(),
                              .delta = call.delta.data<float>(),
                              .dq = GradientRows(call.dq_state, call.query_stage, query_turn, call.dq),
                              .dk = GradientRows(call.dk_state, call.key_stage, key_turn, call.dk),
                              .dv = GradientRows(call.dv_state, call.key_stage, no_turn, call.dv)};
  if (tables.decay.defined()) arguments.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  if (tables.slopes.defined()) {
    arguments.query_position = tables.query_position.data<std::int32_t>(),
    arguments.key_position = tables.key_position.data<std::int32_t>();
    arguments.slopes = tables.slopes.data<float>();
  }
  switch (width) {
    case 32:
      start<32>(gpu, arguments);
      break;
    case 64:
      start<64>(gpu, arguments);
      break;
    case 96:
      start<96>(gpu, arguments);
      break;
    default:
      start<128>(gpu, arguments);
  }
}

}  // namespace lexring::cuda
