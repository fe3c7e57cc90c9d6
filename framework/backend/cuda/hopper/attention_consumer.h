/// A consumer warpgroup of the forward kernel.
#pragma once

#include <cmath>

#include "framework/backend/cuda/hopper/attention_block.h"
#include "framework/backend/cuda/hopper/attention_tile.h"

namespace lexring::cuda::hopper {

using flash::KeyWalk;

/// A consumer warpgroup: 64 of the tile's 128 queries against all tiles of 128 keys that they see. Scores, weights and
/// outputs stay in registers.
template <int width, bool sloped>
class Consumer {
 public:
  __device__ __forceinline__ Consumer(const ForwardArguments& arguments, ForwardShared<width>& memory, int index)
      : c(arguments), shared(memory), me(index) {}

  __device__ __forceinline__ void run() {
    // Turns are taken: while one warpgroup has the tensor cores, the other makes weights. The first has the first.
    if (me == 1) named_barrier_arrive(first_turn, consumers * warpgroup);
    each_task(c.schedule, [&](const Task& task) {
      const QueryTile tile = c.query_tiles[task.tile];
      float sums[width / 8][4] = {};
      RunningSoftmax softmax{{lowest, lowest}, {0, 0}};
      if (!c.first) read_state(sums, softmax, tile, task.head);
      const KeyWalk walk(tile);
      if (walk.count > 0) meet(sums, softmax, tile, walk, task.head);
      write(sums, softmax, tile, task.head);
    });
  }

 private:
  /// The loop of FlashAttention-3 (Shah et al. 2024, algorithm 2): scores of the next tile are computed beside the
  /// output of this one, and weights are made while the other warpgroup computes. The first tile is apart, so that
  /// every product in the loop is always there: where one may be missing, ptxas has them wait for each other.
  __device__ __forceinline__ void meet(float (&sums)[width / 8][4], RunningSoftmax& softmax, const QueryTile& tile,
                                       const KeyWalk& walk, int head) {
    float scores[key_rows / 8][4], shrink[2];
    unsigned weights[key_rows / 16][4];
    int base = tile.base;
    KeyTile ahead = c.key_tiles[walk[0]];  // read a step before it is needed
    Positions positions;
    if constexpr (sloped) positions.read_queries(c.query_position, tile, row());
    barrier_wait(shared.q_full, q.parity);
    q.next();
    const auto next_keys = [&](int step) {
      const KeyTile keys = ahead;
      if (step + 1 < walk.count) ahead = c.key_tiles[walk[step + 1]];
      if constexpr (sloped) positions.read_keys(c.key_position, keys);
      if (keys.base != base) count_from(base = keys.base, tile, head);
      named_barrier_sync(first_turn + me, consumers * warpgroup);
      barrier_wait(shared.k_full[k.stage], k.parity);
      return keys;
    };
    const auto weigh = [&](const KeyTile& keys, bool last) {
      release(shared.k_empty[k.stage]);
      k.next();
      if (last) release(shared.q_empty);
      if constexpr (sloped) add_slopes(scores, c.slopes[head] * c.inverse_scale, positions);
      if (!seen_by_all(tile, keys)) mask(scores, c.ranges + tile.first, row(), tile.count, keys);
      return make_weights(scores, c.binary_scale, softmax, shrink);
    };
    const auto shrink_sums = [&](bool grown) {
      if (grown) {  // rare after the first tiles
        LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
          LEXRING_UNROLL for (int e = 0; e < 4; ++e) sums[j][e] *= shrink[e / 2];
        }
      }
      LEXRING_UNROLL for (int i = 0; i < key_rows / 16; ++i)
          flash::pack_left(scores[2 * i], scores[2 * i + 1], weights[i]);
    };
    {
      const KeyTile keys = next_keys(0);
      start_scores(scores);
      named_barrier_arrive(first_turn + (me ^ 1), consumers * warpgroup);
      wgmma_wait<0>(scores);
      shrink_sums(weigh(keys, walk.count == 1));
    }
    LEXRING_UNROLL_ONCE for (int step = 1; step < walk.count; ++step) {
      const KeyTile keys = next_keys(step);
      start_scores(scores);
      barrier_wait(shared.v_full[v.stage], v.parity);
      start_sums(sums, weights);
      named_barrier_arrive(first_turn + (me ^ 1), consumers * warpgroup);
      wgmma_wait<1>(scores);
      const bool grown = weigh(keys, step + 1 == walk.count);
      compute_before_wait(softmax.total[0] + softmax.total[1], &shared);  // the weights, beside the products
      wgmma_wait<0>(sums);
      release(shared.v_empty[v.stage]);
      v.next();
      shrink_sums(grown);
    }
    barrier_wait(shared.v_full[v.stage], v.parity);
    start_sums(sums, weights);
    wgmma_wait<0>(sums);
    release(shared.v_empty[v.stage]);
    v.next();
  }

  __device__ __forceinline__ void start_scores(float (&scores)[key_rows / 8][4]) const {
    const unsigned queries = shared_address(shared.q), keys = shared_address(shared.k[k.stage]);
    wgmma_fence();
    LEXRING_UNROLL for (int i = 0; i < width / step_channels; ++i)
        wgmma_rows(scores, rows_descriptor(queries, query_rows, me * consumer_rows, i),
                   rows_descriptor(keys, key_rows, 0, i), i > 0);
    wgmma_commit();
  }
  __device__ __forceinline__ void start_sums(float (&sums)[width / 8][4],
                                             const unsigned (&weights)[key_rows / 16][4]) const {
    const unsigned values = shared_address(shared.v[v.stage]);
    wgmma_fence();
    LEXRING_UNROLL for (int i = 0; i < key_rows / 16; ++i)
        wgmma_weighted(sums, weights[i], transposed_descriptor(values, key_rows, width, i));
    wgmma_commit();
  }

  __device__ __forceinline__ static void release(TransactionBarrier& empty) {
    __syncwarp();
    if (flash::this_lane() == 0) barrier_arrive(empty);
  }

  __device__ __forceinline__ static bool seen_by_all(const QueryTile& tile, const KeyTile& keys) {
    return keys.count == key_rows && keys.first >= tile.whole_first && keys.first + key_rows <= tile.whole_last;
  }

  /// This thread's first row, of the tile.
  __device__ __forceinline__ int row() const {
    return me * consumer_rows + flash::this_thread() % warpgroup / warp_size * 16 + flash::this_lane() / 4;
  }

  /// Decay beyond a span (call.h): queries are written anew, their decay counted from the base of the next keys.
  __device__ __forceinline__ void count_from(int base, const QueryTile& tile, int head) const {
    named_barrier_sync(first_warpgroup + me, warpgroup);  // no warp's product reads them
    load_decayed_rows<width>(shared.q, query_rows, me * consumer_rows, consumer_rows, tile.count,
                             c.q.at(head, tile.first), c.q.row_stride, c.decay, c.width / 2, tile.base - base);
    fence_async_proxy();
    named_barrier_sync(first_warpgroup + me, warpgroup);
  }

  __device__ __forceinline__ std::int64_t place(const QueryTile& tile, int r, int head) const {
    return static_cast<std::int64_t>(tile.first + r) * c.schedule.heads + head;
  }

  __device__ __forceinline__ void read_state(float (&sums)[width / 8][4], RunningSoftmax& softmax,
                                             const QueryTile& tile, int head) const {
    const int channel = flash::this_lane() % 4 * 2;
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
      const int r = row() + 8 * i;
      if (r >= tile.count) continue;
      const std::int64_t at = place(tile, r, head);
      softmax.maximum[i] = fmaxf(c.state_maximum[at] * log2_e, lowest);
      if (channel == 0) softmax.total[i] = c.state_sum[at];
      LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
        if (8 * j + channel >= c.width) continue;
        const Floats<2> x = load<2>(c.state_output + at * c.width + 8 * j + channel);
        sums[j][2 * i] = x[0], sums[j][2 * i + 1] = x[1];
      }
    }
  }

  __device__ __forceinline__ void write(const float (&sums)[width / 8][4], RunningSoftmax& softmax,
                                        const QueryTile& tile, int head) const {
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) {
      float& sum = softmax.total[i];
      sum += __shfl_xor_sync(whole_warp, sum, 1);
      sum += __shfl_xor_sync(whole_warp, sum, 2);
      const int r = row() + 8 * i;
      const std::int64_t at = place(tile, r, head);
      const float natural = softmax.maximum[i] == lowest ? -flash::infinity : softmax.maximum[i] * ln_2;
      if (flash::this_lane() % 4 == 0 && r < tile.count) {
        if (c.last) c.lse[at] = sum > 0 ? natural + logf(sum) : -flash::infinity;
        else c.state_maximum[at] = natural, c.state_sum[at] = sum;
      }
      if (c.last) write_output(sums, i, sum > 0 ? 1.0F / sum : 0.0F, at, r < tile.count);
      else if (r < tile.count) write_state(sums, i, at);
    }
  }

  __device__ __forceinline__ void write_state(const float (&sums)[width / 8][4], int i, std::int64_t at) const {
    const int channel = flash::this_lane() % 4 * 2;
    LEXRING_UNROLL for (int j = 0; j < width / 8; ++j) {
      if (8 * j + channel < c.width)
        store<2>(c.state_output + at * c.width + 8 * j + channel, Floats<2>{{sums[j][2 * i], sums[j][2 * i + 1]}});
    }
  }

  /// The four lanes of a row exchange what they have, so that each writes 16 bytes. Not by way of shared memory: the
  /// copy engine is filling it for the next tile.
  __device__ __forceinline__ void write_output(const float (&sums)[width / 8][4], int i, float inverse, std::int64_t at,
                                               bool exists) const {
    LEXRING_UNROLL for (int j = 0; j < width / 8; j += 4) {
      unsigned word[4];
      LEXRING_UNROLL for (int m = 0; m < 4; ++m) word[m] =
          pack_bfloat16(sums[j + m][2 * i] * inverse, sums[j + m][2 * i + 1] * inverse);
      transpose_in_quad(word);
      const int channel = 8 * (j + flash::this_lane() % 4);
      bfloat16* const to = c.output + at * c.width + channel;
      if (!exists || channel >= c.width) continue;
      if (c.vectors) {
        store_words(to, word);
      } else {
        LEXRING_UNROLL for (int e = 0; e < 8; ++e) {
          if (channel + e < c.width) to[e].bits = static_cast<std::uint16_t>(word[e / 2] >> e % 2 * 16);
        }
      }
    }
  }

  const ForwardArguments& c;
  ForwardShared<width>& shared;
  int me;
  RingPlace<1> q;
  RingPlace<stages> k, v;
};

}  // namespace lexring::cuda::hopper
