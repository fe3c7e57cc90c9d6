#include <algorithm>

#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/hopper/attention.h"
#include "framework/backend/cuda/hopper/attention_consumer.h"

namespace lexring::cuda::hopper {
namespace {

struct Maps {
  TensorMap q, k, v;
};

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

/// README.md beside this: floor, and what it should reach.
template <int width, bool sloped>
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
    Consumer<width, sloped>(c, shared, role - 1).run();
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
  launch(gpu.stream, dim3(static_cast<unsigned>(blocks)), threads, sizeof(ForwardShared<width>),
         arguments.slopes != nullptr ? hopper_forward<width, true> : hopper_forward<width, false>, maps, arguments);
}

}  // namespace

bool supports(const AttentionForward& call) {
  return flash_supports(call.form, call.bias, call.q.dtype()) && !call.row_terms.defined() &&
         call.queries->tokens.rows() > 0 && call.keys->tokens.rows() > 0;
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
      .q = flash::HeadView(q),
      .query_tiles = tables.queries(),
      .key_tiles = tables.keys(),
      .ranges = tables.rows(),
      .decay = nullptr,
      .query_position = nullptr,
      .key_position = nullptr,
      .slopes = nullptr,
      .schedule = {tables.query_tiles_count, heads, heads_at_once(key_count, static_cast<int>(width), heads, group)},
      .group = group,
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
    arguments.query_position = tables.query_position.data<std::int32_t>();
    arguments.key_position = tables.key_position.data<std::int32_t>();
    arguments.slopes = tables.slopes.data<float>();
  }
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
