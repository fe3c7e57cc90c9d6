#include "framework/backend/cuda/attention_flash_backward.h"

namespace lexring::cuda::flash {
namespace {

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
__global__ void __launch_bounds__(threads, width <= 32 ? 2 : 1) backward_keys(const BackwardArguments c) {
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

template <int width>
void start(const Gpu& gpu, const BackwardArguments& arguments) {
  const auto group = static_cast<unsigned>(arguments.group), key_heads = static_cast<unsigned>(arguments.heads) / group;
  const dim3 blocks(static_cast<unsigned>(arguments.key_tiles_count), key_heads);
  launch(gpu.stream, blocks, threads, sizeof(Shared<width>),
         arguments.slopes != nullptr ? backward_keys<width, true> : backward_keys<width, false>, arguments);
}

}  // namespace

void flash_backward_keys(const Gpu& gpu, const BackwardArguments& arguments, std::int64_t width) {
  with_width(width, [&]<int w>(std::integral_constant<int, w>) { start<w>(gpu, arguments); });
}

}  // namespace lexring::cuda::flash
