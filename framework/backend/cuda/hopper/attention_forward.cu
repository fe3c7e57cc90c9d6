#include <algorithm>
#include <cmath>

#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/hopper/attention.h"
#include "framework/backend/cuda/hopper/attention_tile.h"
#include "framework/backend/cuda/hopper/schedule.h"

namespace lexring::cuda::hopper {
namespace {

using flash::HeadView;
using flash::KeyWalk;

constexpr int query_rows = 128, key_rows = 128, stages = 2;
constexpr int warpgroup = 128, consumers = 2, threads = (consumers + 1) * warpgroup;
constexpr int consumer_rows = query_rows / consumers;
/// A block has a multiprocessor, 65,536 registers, to itself: 168 a thread at its start. The producer needs few.
constexpr int producer_registers = 24, consumer_registers = 240;
static_assert(warpgroup * (producer_registers + consumers * consumer_registers) <= 65536);

enum NamedBarrier { first_turn = 1, first_warpgroup = first_turn + consumers };

struct Maps {
  TensorMap q, k, v;
};

struct ForwardArguments {
  HeadView q;  ///< for what the copy engine cannot do
  const QueryTile* query_tiles;
  const KeyTile* key_tiles;
  const RowRange* ranges;
  const LogDecay* decay;  ///< null: none
  Schedule schedule;
  int group, width;
  float binary_scale;  ///< of scores in base 2
  bool first, last;
  bool vectors;  ///< output is written 16 bytes at a time
  float *state_output, *state_maximum, *state_sum;
  bfloat16* output;
  float* lse;
};

/// Every buffer has a barrier that says it is full, which the copy engine completes, and one that says it is empty, at
/// which all consumer warps arrive. Keys and values have their own: keys are done with earlier.
template <int width>
struct ForwardShared {
  alignas(swizzle_bytes) bfloat16 q[query_rows * width];
  alignas(swizzle_bytes) bfloat16 k[stages][key_rows * width];
  alignas(swizzle_bytes) bfloat16 v[stages][key_rows * width];
  TransactionBarrier q_full, q_empty, k_full[stages], k_empty[stages], v_full[stages], v_empty[stages];
};

/// Calls body(task) for this block's tasks, in order: the same for producer and consumers.
template <class Body>
__device__ __forceinline__ void each_task(const Schedule& schedule, const Body& body) {
  const int blocks = static_cast<int>(gridDim.x), tasks = schedule.tasks();
  LEXRING_UNROLL_ONCE for (int round = 0; round * blocks < tasks; ++round) {
    const int n = task_of_round(round, static_cast<int>(blockIdx.x), blocks);
    if (n < tasks) body(task_at(schedule, n));
  }
}

template <int width, int rows>
__device__ __forceinline__ void copy_tile(bfloat16* to, const TensorMap& map, TransactionBarrier& full, int row,
                                          int head) {
  barrier_arrive_expecting(full, rows * width * 2);
  LEXRING_UNROLL for (int channel = 0; channel < width; channel += panel_channels)
      copy_box(to + channel * rows, map, full, channel, row, head);
}

/// One thread, ahead of the consumers as far as there are buffers. Keys go one tile before values, as products do.
template <int width>
__device__ __forceinline__ void produce(const Maps& maps, const ForwardArguments& c, ForwardShared<width>& shared) {
  RingPlace<1> q;
  RingPlace<stages> k, v;
  each_task(c.schedule, [&](const Task& task) {
    const QueryTile& tile = c.query_tiles[task.tile];
    const KeyWalk walk(tile);
    const int key_head = task.head / c.group;
    if (walk.count == 0) return;
    barrier_wait(shared.q_empty, q.parity ^ 1);
    copy_tile<width, query_rows>(shared.q, maps.q, shared.q_full, tile.first, task.head);
    q.next();
    LEXRING_UNROLL_ONCE for (int step = 0; step <= walk.count; ++step) {
      if (step < walk.count) {
        barrier_wait(shared.k_empty[k.stage], k.parity ^ 1);
        copy_tile<width, key_rows>(shared.k[k.stage], maps.k, shared.k_full[k.stage], c.key_tiles[walk[step]].first,
                                   key_head);
        k.next();
      }
      if (step > 0) {
        barrier_wait(shared.v_empty[v.stage], v.parity ^ 1);
        copy_tile<width, key_rows>(shared.v[v.stage], maps.v, shared.v_full[v.stage], c.key_tiles[walk[step - 1]].first,
                                   key_head);
        v.next();
      }
    }
  });
}

/// A consumer warpgroup: 64 of the tile's 128 queries against all tiles of 128 keys that they see. Scores, weights and
/// outputs stay in registers.
template <int width>
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
    barrier_wait(shared.q_full, q.parity);
    q.next();
    const auto next_keys = [&](int step) {
      const KeyTile keys = ahead;
      if (step + 1 < walk.count) ahead = c.key_tiles[walk[step + 1]];
      if (keys.base != base) count_from(base = keys.base, tile, head);
      named_barrier_sync(first_turn + me, consumers * warpgroup);
      barrier_wait(shared.k_full[k.stage], k.parity);
      return keys;
    };
    const auto weigh = [&](const KeyTile& keys, bool last) {
      release(shared.k_empty[k.stage]);
      k.next();
      if (last) release(shared.q_empty);
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

/// README.md beside this: floor, and what it should reach.
template <int width>
__global__ void __launch_bounds__(threads, 1)
    hopper_forward(const __grid_constant__ Maps maps, const __grid_constant__ ForwardArguments c) {
  auto& shared = shared_memory<ForwardShared<width>>();
  if (threadIdx.x == 0) {
    constexpr unsigned warps = consumers * warpgroup / warp_size;
    barrier_init(shared.q_full, 1), barrier_init(shared.q_empty, warps);
    for (int i = 0; i < stages; ++i) {
      barrier_init(shared.k_full[i], 1), barrier_init(shared.k_empty[i], warps);
      barrier_init(shared.v_full[i], 1), barrier_init(shared.v_empty[i], warps);
    }
    fence_async_proxy();
  }
  __syncthreads();
  // One branch per role, the same for whole warpgroups: only so are registers dealt out anew.
  const int role = __shfl_sync(whole_warp, static_cast<int>(threadIdx.x) / warpgroup, 0);
  if (role == 0) {
    give_registers<producer_registers>();
    if (threadIdx.x == 0) produce<width>(maps, c, shared);
  } else {
    take_registers<consumer_registers>();
    Consumer<width>(c, shared, role - 1).run();
  }
}

TensorMap map_of(const HeadRows& rows, std::int64_t count, std::int64_t heads, int box_rows) {
  return make_tensor_map(tensor_map_shape({.data = rows.data<bfloat16>(),
                                           .width = rows.width,
                                           .rows = count,
                                           .heads = heads,
                                           .row_stride = rows.row_stride,
                                           .head_stride = rows.head_stride},
                                          box_rows));
}

template <int width>
void start(const Gpu& gpu, const Maps& maps, const ForwardArguments& arguments) {
  const int blocks = std::min(arguments.schedule.tasks(), gpu.multiprocessors);
  launch(gpu.stream, dim3(static_cast<unsigned>(blocks)), threads, sizeof(ForwardShared<width>), hopper_forward<width>,
         maps, arguments);
}

}  // namespace

bool supports(const AttentionForward& call) {
  return flash_supports(call.form, call.bias, call.q.dtype()) && call.bias.slopes.empty() &&
         !call.row_terms.defined() && call.queries->tokens.rows() > 0 && call.keys->tokens.rows() > 0;
}

void attention(const Gpu& gpu, const AttentionForward& call) {
  const AttentionForm& form = call.form;
  const AttentionTables& tables =
      gpu.attention_tables.of(gpu, form, call.bias, call.queries, call.keys, query_rows, key_rows);
  const std::int64_t width = form.head_width <= 64 ? 64 : 128, query_count = call.queries->tokens.rows(),
                     key_count = call.keys->tokens.rows();
  const int heads = static_cast<int>(form.heads), group = static_cast<int>(form.group());
  const HeadRows q =
      turned_rows(gpu, call.q, form.heads, width, call.queries->rotary, tables.query_distance, tables.decay);
  const HeadRows k =
      turned_rows(gpu, call.k, form.kv_heads, width, call.keys->rotary, tables.key_distance, tables.decay);
  const HeadRows v = turned_rows(gpu, call.v, form.kv_heads, width, {}, {}, {});
  const Maps maps{map_of(q, query_count, form.heads, query_rows), map_of(k, key_count, form.kv_heads, key_rows),
                  map_of(v, key_count, form.kv_heads, key_rows)};
  ForwardArguments arguments{
      .q = HeadView(q),
      .query_tiles = tables.queries(),
      .key_tiles = tables.keys(),
      .ranges = tables.rows(),
      .decay = nullptr,
      .schedule = {tables.query_tiles_count, heads, heads_at_once(key_count, static_cast<int>(width), heads, group)},
      .group = group,
      .width = static_cast<int>(form.head_width),
      .binary_scale = static_cast<float>(form.scale) * log2_e,
      .first = call.stage.first,
      .last = call.stage.last,
      .vectors = false,
      .state_output = nullptr,
      .state_maximum = nullptr,
      .state_sum = nullptr,
      .output = nullptr,
      .lse = nullptr};
  if (tables.decay.defined()) arguments.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  if (!call.stage.first || !call.stage.last) {
    arguments.state_output = call.state.output.data<float>();
    arguments.state_maximum = call.state.maximum.data<float>(), arguments.state_sum = call.state.sum.data<float>();
  }
  if (call.stage.last) arguments.output = call.output.data<bfloat16>(), arguments.lse = call.lse.data<float>();
  arguments.vectors = form.head_width % 8 == 0 && aligned(arguments.output);
  if (width == 64) start<64>(gpu, maps, arguments);
  else start<128>(gpu, maps, arguments);
}

}  // namespace lexring::cuda::hopper
