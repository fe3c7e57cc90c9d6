#include "tests/emulated_cuda/emulated_gpu.h"

#include <array>
#include <deque>
#include <exception>
#include <memory>
#include <vector>

#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>

#include "tests/emulated_cuda/block.h"

namespace lexring::cuda {
namespace emulated {
namespace {

namespace context = boost::context;

constexpr std::size_t stack_bytes = 128 << 10;
constexpr std::size_t shared_alignment = 1024;
/// What a block may have on every GPU that lexring runs on, and on a Hopper.
constexpr std::size_t shared_limit = 160 << 10, hopper_shared_limit = 227 << 10;

struct Barrier {
  unsigned expected = 0, arrived = 0;
  std::uint64_t generation = 0;
};

/// What a warp posts stays until all have come for the next but one exchange, so that one wait each is enough.
struct Warp {
  Barrier barrier{32};
  std::array<std::array<Posted, 32>, 2> posted;
};

struct Copy {
  void* to;
  const void* from;
  bool valid;
};

struct Thread {
  unsigned index;
  Warp* warp;
  context::fiber fiber, scheduler;
  const std::uint64_t* waits_for = nullptr;  ///< a number to change
  std::uint64_t seen = 0;                    ///< what it was
  std::vector<Copy> open;                    ///< copies not yet committed
  std::deque<std::vector<Copy>> groups;      ///< committed and not arrived
};

/// The block that runs, and its thread that runs.
struct Block {
  dim3 index, size;
  Barrier barrier;
  std::vector<Warp> warps;
  std::vector<Thread> threads;
  std::vector<std::byte> shared;
  std::byte* shared_begin = nullptr;
  std::size_t shared_size = 0;
  Thread* running = nullptr;
  std::uint64_t chance = 0;
  bool copies_at_once = false;
  bool progress = false;  ///< somebody no longer waits
  std::unique_ptr<BesideThreads> beside;
  std::exception_ptr error;
};

thread_local Block* current = nullptr;

Thread& self() { return *current->running; }
int lane() { return static_cast<int>(self().index % 32); }

void run(Thread& thread) {
  current->running = &thread;
  place.thread = {thread.index, 0, 0};
}

void wait(Barrier& barrier) {
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
    current->progress = true;
    return;
  }
  wait_for_change(barrier.generation);
}

void arrive(const std::vector<Copy>& group) {
  for (const Copy& copy : group) {
    if (copy.valid) std::memcpy(copy.to, copy.from, 16);
    else std::memset(copy.to, 0, 16);
    wrote_shared(copy.to, 16);
  }
}

bool aligned(const void* address, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(address) % bytes == 0; }

void require_shared(const void* address) { require_place(address, 16, Memory::shared); }

void run_block(Block& block, const std::function<void()>& kernel, context::pooled_fixedsize_stack& stacks) {
  std::fill(block.shared.begin(), block.shared.end(), std::byte{0xff});
  block.barrier = {block.size.x};
  block.beside.reset();
  block.warps.assign(block.size.x / 32, Warp{});
  block.threads.clear();
  block.threads.resize(block.size.x);
  for (unsigned t = 0; t < block.size.x; ++t) {
    Thread& thread = block.threads[t];
    thread.index = t;
    thread.warp = &block.warps[t / 32];
    thread.fiber = context::fiber(std::allocator_arg, stacks, [&](context::fiber&& scheduler) {
      thread.scheduler = std::move(scheduler);
      try {
        kernel();
      } catch (const Error&) {
        if (!block.error) block.error = std::current_exception();
      }
      block.progress = true;
      return std::move(thread.scheduler);
    });
  }
  // Every second block, a warp runs as far as it can before the next one does; in the others all run from wait to wait.
  const unsigned order = block.index.x + block.index.y + block.index.z;
  const bool ahead = order % 2 == 0;
  block.copies_at_once = order % 3 == 1;
  const auto warps = static_cast<unsigned>(block.warps.size());
  bool forward = order / 2 % 2 == 0, alive = true;
  const auto resume_warp = [&](unsigned warp) {
    block.progress = false;
    for (unsigned i = 0; i < 32 && !block.error; ++i) {
      Thread& thread = block.threads[32 * warp + (forward ? i : 31 - i)];
      if (!thread.fiber) continue;
      alive = true;
      if (thread.waits_for != nullptr && *thread.waits_for == thread.seen) continue;
      run(thread);
      thread.fiber = std::move(thread.fiber).resume();
    }
    return block.progress;
  };
  for (; alive && !block.error; forward = !forward) {
    alive = false;
    bool progress = false;
    for (unsigned w = 0; w < warps && !block.error; ++w) {
      while (resume_warp(forward ? w : warps - 1 - w) && !block.error) {
        progress = true;
        if (!ahead) break;
      }
    }
    if (alive && !progress && !block.error && !(block.beside && block.beside->go_on())) {
      block.threads.clear();
      fail(
          "threads of block ({}, {}) wait for others that never come: a barrier in a branch, or a warp-wide function "
          "not reached by all 32",
          block.index.x, block.index.y);
    }
  }
  block.threads.clear();
  if (block.error) std::rethrow_exception(block.error);
  if (block.beside) block.beside->ended();
  require(block.beside || block.shared_size <= shared_limit,
          "a block asks for {} bytes of shared memory; every GPU that lexring runs on has {}", block.shared_size,
          shared_limit);
}

}  // namespace

std::span<std::byte> shared_memory_of_block() { return {current->shared_begin, current->shared_size}; }
unsigned thread_of_block() { return self().index; }
unsigned threads_of_block() { return current->size.x; }
bool one_in(unsigned times) {
  current->chance = current->chance * 6364136223846793005U + 1442695040888963407U;
  return (current->chance >> 33) % times == 0;
}
std::unique_ptr<BesideThreads>& beside_threads() { return current->beside; }
void wait_for_change(const std::uint64_t& number) {
  Thread& me = self();
  me.waits_for = &number;
  me.seen = number;
  me.scheduler = std::move(me.scheduler).resume();
  me.waits_for = nullptr;
}
void somebody_may_go_on() { current->progress = true; }
void wrote_shared(const void* to, std::size_t bytes) {
  if (current->beside) current->beside->written(to, bytes);
}

void block_barrier() { wait(current->barrier); }
void warp_barrier() { wait(self().warp->barrier); }

const Posted* post(const void* mine, std::size_t bytes) {
  Warp& warp = *self().warp;
  std::array<Posted, 32>& posted = warp.posted[warp.barrier.generation % 2];
  std::memcpy(posted[static_cast<std::size_t>(lane())].bytes, mine, bytes);
  warp_barrier();
  return posted.data();
}

std::byte* shared_bytes(std::size_t needed) {
  require(needed <= current->shared_size, "a kernel uses {} bytes of shared memory and was launched with {}", needed,
          current->shared_size);
  return current->shared_begin;
}

void require_place(const void* address, std::size_t bytes, Memory memory) {
  const auto* const byte = static_cast<const std::byte*>(address);
  const std::byte* const end = current->shared_begin + current->shared_size;
  require(aligned(address, bytes), "an access of {} bytes to an address that is not a multiple of them", bytes);
  if (memory == Memory::shared) {
    require(byte >= current->shared_begin && byte + bytes <= end, "{} bytes outside the block's shared memory", bytes);
  } else {
    require(byte >= end || byte + bytes <= current->shared_begin, "{} bytes of shared memory taken for global ones",
            bytes);
  }
}

void cp_async(void* to, const void* from, bool valid) {
  require_shared(to);
  require(!valid || aligned(from, 16), "cp_async from an address that is not a multiple of 16");
  if (current->copies_at_once) arrive({{to, from, valid}});
  else self().open.push_back({to, from, valid});
}
void cp_async_commit() {
  self().groups.push_back(std::move(self().open));
  self().open.clear();
}
void cp_async_wait(int groups) {
  auto& pending = self().groups;
  for (; pending.size() > static_cast<std::size_t>(groups); pending.pop_front()) arrive(pending.front());
}

MemoryDoor& memory_door() {
  static MemoryDoor door;
  return door;
}

void run(dim3 blocks, unsigned threads, std::size_t shared_bytes, const std::function<void()>& kernel) {
  require(threads % 32 == 0 && threads > 0 && threads <= 1024, "a block of {} threads is not a number of warps",
          threads);
  require(shared_bytes <= hopper_shared_limit, "a block asks for {} bytes of shared memory; an H100 has {}",
          shared_bytes, hopper_shared_limit);
  require(blocks.y <= 65535 && blocks.z <= 65535, "a grid of {} x {} x {} blocks is too large", blocks.x, blocks.y,
          blocks.z);
  context::pooled_fixedsize_stack stacks(stack_bytes, 64, 0);
  Block block;
  block.size = {threads, 1, 1};
  block.shared.resize(shared_bytes + shared_alignment);
  block.shared_size = shared_bytes;
  block.shared_begin = block.shared.data();
  while (!aligned(block.shared_begin, shared_alignment)) ++block.shared_begin;
  struct Scope {
    Block* outer = current;
    Place outer_place = place;
    ~Scope() { current = outer, place = outer_place; }
  } scope;
  static thread_local unsigned launches = 0;
  block.chance = ++launches;
  current = &block;
  place.block_size = block.size, place.grid = blocks;
  const Inside inside;
  for (unsigned z = 0; z < blocks.z; ++z)
    for (unsigned y = 0; y < blocks.y; ++y)
      for (unsigned x = 0; x < blocks.x; ++x) {
        place.block = block.index = {x, y, z};
        run_block(block, kernel, stacks);
      }
}

}  // namespace emulated

namespace {

float low(unsigned pair) {
  return static_cast<float>(std::bit_cast<bfloat16>(static_cast<std::uint16_t>(pair & 0xffffU)));
}
float high(unsigned pair) {
  return static_cast<float>(std::bit_cast<bfloat16>(static_cast<std::uint16_t>(pair >> 16)));
}

void ldmatrix(unsigned (&r)[4], const void* row, bool transposed) {
  emulated::require_shared(row);
  const emulated::Posted* const posted = emulated::post(row);
  const int me = emulated::lane(), major = me / 4, minor = 2 * (me % 4);
  const auto element = [&](int matrix, int at_row, int column) -> unsigned {
    return static_cast<const std::uint16_t*>(posted[8 * matrix + at_row].as<const void*>())[column];
  };
  for (int j = 0; j < 4; ++j) {
    r[j] = transposed ? element(j, minor, major) | element(j, minor + 1, major) << 16
                      : element(j, major, minor) | element(j, major, minor + 1) << 16;
  }
}

}  // namespace

void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  // In f32 already: a lane's operands are read by four to eight others.
  struct Operands {
    float a[4][2], b[2][2];
  } mine;
  for (int i = 0; i < 4; ++i) mine.a[i][0] = low(a[i]), mine.a[i][1] = high(a[i]);
  for (int i = 0; i < 2; ++i) mine.b[i][0] = low(b[i]), mine.b[i][1] = high(b[i]);
  const emulated::Posted* const posted = emulated::post(mine);
  const int me = emulated::lane(), group = me / 4, pair = me % 4;
  const auto of = [&](int lane) -> const Operands& { return *reinterpret_cast<const Operands*>(posted[lane].bytes); };
  float sum[4] = {};  // of row group + 8 * (i / 2), column 2 * pair + i % 2
  for (int t = 0; t < 4; ++t) {
    const Operands& row = of(4 * group + t);
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 4; ++i) {
        const float(&x)[2] = row.a[i / 2 + 2 * half], (&y)[2] = of(4 * (2 * pair + i % 2) + t).b[half];
        sum[i] += x[0] * y[0] + x[1] * y[1];
      }
    }
  }
  for (int i = 0; i < 4; ++i) d[i] += sum[i];
}

void ldmatrix_x4(unsigned (&r)[4], const void* row) { ldmatrix(r, row, false); }
void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) { ldmatrix(r, row, true); }

}  // namespace lexring::cuda
