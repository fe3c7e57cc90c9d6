/// hopper/instructions.h on the host, for tests. It is less forgiving than a GPU:
/// - bulk copies and products are done at once, or when no thread can go on without one of them; chance decides which,
///   and of copies the newest is first;
/// - sums of a product are NaN from its start until they are waited for; it is an error if somebody wrote them
///   meanwhile;
/// - the asynchronous proxy sees of what threads wrote to shared memory only what they have fenced: reading other
///   bytes, writing over them, or reporting to a barrier whose initialisation was not fenced is an error. Writes are
///   known from `store_shared` and cp_async; others count as never fenced;
/// - errors: a product without a wgmma_fence since the last wait, warps of a warpgroup that start different products,
///   descriptors of another layout, barriers that more threads arrive at than they were made for, work that nobody
///   waited for when the block ends, more registers than a multiprocessor has.
/// What it cannot show: threads that still read what a copy writes over, and the order of memory in general.
#pragma once

#include <cstdint>

#include "framework/backend/cuda/hopper/tensor_map.h"
#include "tests/emulated_cuda/emulated_gpu.h"

namespace lexring::cuda {

/// As on a GPU, where the first KiB is the system's.
unsigned shared_address(const void* pointer);

namespace hopper {

struct TransactionBarrier {
  std::uint64_t word;
};
void barrier_init(TransactionBarrier& barrier, unsigned arrivals);
void barrier_arrive(TransactionBarrier& barrier);
void barrier_arrive_expecting(TransactionBarrier& barrier, unsigned bytes);
void barrier_wait(TransactionBarrier& barrier, unsigned parity);
void fence_async_proxy();
void copy_box(void* to_shared, const TensorMap& map, TransactionBarrier& barrier, int channel, int row, int head);
void named_barrier_sync(int id, int threads);
void named_barrier_arrive(int id, int threads);
void wgmma_fence();
void wgmma_commit();

namespace emulated {
void set_registers(int registers);
void wgmma(float* d, int columns, const unsigned* left, std::uint64_t a, std::uint64_t b, bool accumulate);
void wgmma_wait(int groups);
}  // namespace emulated

template <int registers>
void give_registers() {
  static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
  emulated::set_registers(registers);
}
template <int registers>
void take_registers() {
  give_registers<registers>();
}
template <int groups, int n>
void wgmma_wait(float (&/*d*/)[n][4]) {
  emulated::wgmma_wait(groups);
}
inline int after(int x, float /*y*/) { return x; }
inline void compute_before_wait(float /*x*/, void* /*shared*/) {}
inline void wgmma_rows(float (&d)[16][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  emulated::wgmma(&d[0][0], 128, nullptr, a, b, accumulate);
}
template <int n>
void wgmma_weighted(float (&d)[n][4], const unsigned (&a)[4], std::uint64_t b) {
  static_assert(n == 8 || n == 16);
  emulated::wgmma(&d[0][0], 8 * n, a, 0, b, true);
}

}  // namespace hopper
}  // namespace lexring::cuda
