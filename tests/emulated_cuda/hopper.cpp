#include <array>

#include "tests/emulated_cuda/block.h"
#include "tests/emulated_cuda/hopper_products.h"

namespace lexring::cuda::hopper {
namespace emulated {
namespace {

using cuda::emulated::thread_of_block;

/// barrier.cta: so many threads, each of which comes once.
struct NamedBarrier {
  unsigned threads = 0, arrived = 0;
  std::uint64_t generation = 0;
};

class HopperUnits final : public cuda::emulated::BesideThreads {
 public:
  bool go_on() override {
    if (cuda::emulated::one_in(2)) return products.go_on() || copies.go_on();
    return copies.go_on() || products.go_on();
  }
  void written(const void* address, std::size_t bytes) override { memory.written(address, bytes); }
  void ended() override {
    copies.ended();
    barriers.ended();
    products.ended();
    int all = 0;
    for (const int n : registers) all += n;
    require(all <= 65536, "the threads of a block have {} registers; a multiprocessor has 65,536", all);
  }

  ProxyView memory{cuda::emulated::shared_memory_of_block()};
  Barriers barriers;
  CopyEngine copies{memory, barriers};
  TensorCores products{memory, cuda::emulated::threads_of_block()};
  std::array<NamedBarrier, 16> named;
  std::vector<int> registers = std::vector<int>(cuda::emulated::threads_of_block());
};

HopperUnits& units() {
  auto& beside = cuda::emulated::beside_threads();
  if (!beside) beside = std::make_unique<HopperUnits>();
  return static_cast<HopperUnits&>(*beside);
}

NamedBarrier& arrive(int id, int threads) {
  require(id > 0 && id < 16, "there is no named barrier {}: they are 1 to 15", id);
  NamedBarrier& barrier = units().named[static_cast<std::size_t>(id)];
  if (barrier.arrived == 0) barrier.threads = static_cast<unsigned>(threads);
  require(threads % 32 == 0 && barrier.threads == static_cast<unsigned>(threads),
          "named barrier {} is waited for by {} threads and by {}", id, barrier.threads, threads);
  if (++barrier.arrived == barrier.threads) {
    barrier.arrived = 0;
    ++barrier.generation;
    cuda::emulated::somebody_may_go_on();
  }
  return barrier;
}

}  // namespace

void set_registers(int registers) { units().registers[thread_of_block()] = registers; }
void wgmma(float* d, int columns, const unsigned* left, std::uint64_t a, std::uint64_t b, bool accumulate) {
  units().products.start(d, columns, left, a, b, accumulate);
}
void wgmma_wait(int groups) { units().products.wait(groups); }

}  // namespace emulated

void barrier_init(TransactionBarrier& barrier, unsigned arrivals) {
  emulated::units().barriers.init(barrier, arrivals);
}
void barrier_arrive(TransactionBarrier& barrier) { emulated::units().barriers.arrive(barrier, 0); }
void barrier_arrive_expecting(TransactionBarrier& barrier, unsigned bytes) {
  emulated::units().barriers.arrive(barrier, bytes);
}
void barrier_wait(TransactionBarrier& barrier, unsigned parity) { emulated::units().barriers.wait(barrier, parity); }
void fence_async_proxy() {
  emulated::units().memory.fence();
  emulated::units().barriers.fence();
}
void copy_box(void* to_shared, const TensorMap& map, TransactionBarrier& barrier, int channel, int row, int head) {
  emulated::units().copies.start(to_shared, map, barrier, channel, row, head);
}
void named_barrier_sync(int id, int threads) {
  emulated::NamedBarrier& barrier = emulated::units().named[static_cast<std::size_t>(id & 15)];
  const std::uint64_t before = barrier.generation;
  emulated::arrive(id, threads);
  while (barrier.generation == before) cuda::emulated::wait_for_change(barrier.generation);
}
void named_barrier_arrive(int id, int threads) { emulated::arrive(id, threads); }
void wgmma_fence() { emulated::units().products.fence(); }
void wgmma_commit() { emulated::units().products.commit(); }

}  // namespace lexring::cuda::hopper
