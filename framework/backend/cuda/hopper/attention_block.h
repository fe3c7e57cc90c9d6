/// A block of the forward kernel: its sizes and roles, what it is given, its shared memory, and the tasks it has.
#pragma once

#include "framework/backend/cuda/attention_flash_tiles.h"
#include "framework/backend/cuda/hopper/instructions.h"
#include "framework/backend/cuda/hopper/schedule.h"

namespace lexring::cuda::hopper {

inline constexpr int query_rows = 128, key_rows = 128, stages = 2;
inline constexpr int warpgroup = 128, consumers = 2, threads = (consumers + 1) * warpgroup;
inline constexpr int consumer_rows = query_rows / consumers;
/// A block has a multiprocessor, 65,536 registers, to itself: 168 a thread at its start. The producer needs few.
inline constexpr int producer_registers = 24, consumer_registers = 240;
static_assert(warpgroup * (producer_registers + consumers * consumer_registers) <= 65536);

enum NamedBarrier { first_turn = 1, first_warpgroup = first_turn + consumers };

struct ForwardArguments {
  flash::HeadView q;  ///< for what the copy engine cannot do
  const QueryTile* query_tiles;
  const KeyTile* key_tiles;
  const RowRange* ranges;
  const LogDecay* decay;                              ///< null: none
  const std::int32_t *query_position, *key_position;  ///< with slopes
  const float* slopes;                                ///< null: none
  Schedule schedule;
  int group, width;
  float binary_scale, inverse_scale;  ///< of scores in base 2, and 1 / it
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

}  // namespace lexring::cuda::hopper
