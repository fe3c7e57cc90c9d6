#include "framework/backend/cuda/attention_flash_backward.h"

namespace lexring::cuda::flash {
namespace {

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
__global__ void __launch_bounds__(threads, width <= 64 ? 3 : 2) backward_queries(const BackwardArguments c) {
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

template <int width>
void start(const Gpu& gpu, const BackwardArguments& arguments) {
  const auto group = static_cast<unsigned>(arguments.group), key_heads = static_cast<unsigned>(arguments.heads) / group;
  const dim3 blocks(static_cast<unsigned>(arguments.query_tiles_count), group, key_heads);
  launch(gpu.stream, blocks, threads, sizeof(Shared<width>),
         arguments.slopes != nullptr ? backward_queries<width, true> : backward_queries<width, false>, arguments);
}

}  // namespace

void flash_backward_queries(const Gpu& gpu, const BackwardArguments& arguments, std::int64_t width) {
  with_width(width, [&]<int w>(std::integral_constant<int, w>) { start<w>(gpu, arguments); });
}

}  // namespace lexring::cuda::flash
