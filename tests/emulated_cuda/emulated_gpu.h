/// gpu.h on the host, for tests: every kernel's arithmetic and indexing, without a GPU. A block's threads are fibers
/// that run one after the other, each until it waits; blocks run in order.
///
/// It is less forgiving than a GPU: shared memory starts as NaN; a copy by cp_async arrives no sooner than it is waited
/// for, or (every third block) at once; which thread runs first changes from wait to wait, and one warp may run far
/// ahead of the others; a barrier that some threads of the block never reach is an error. What it cannot show: races
/// within one instruction, memory order, alignment of addresses that only a GPU refuses (copies and wide stores check
/// theirs).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#include "framework/backend/cuda/launch.h"
#include "framework/base/error.h"
#include "framework/tensor/dtype.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx (::lexring::cuda::emulated::thread_index())
#define blockIdx (::lexring::cuda::emulated::block_index())
#define blockDim (::lexring::cuda::emulated::block_size())
#define gridDim (::lexring::cuda::emulated::grid_size())

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  // NOLINTNEXTLINE(google-explicit-constructor)
  constexpr dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1) : x(x_size), y(y_size), z(z_size) {}
};

namespace lexring::cuda {

namespace emulated {

/// The thread that runs.
struct Place {
  dim3 thread, block, block_size, grid;
};
inline thread_local constinit Place place;
inline dim3 thread_index() { return place.thread; }
inline dim3 block_index() { return place.block; }
inline dim3 block_size() { return place.block_size; }
inline dim3 grid_size() { return place.grid; }

void block_barrier();
void warp_barrier();

/// Where a lane puts what the others of its warp read.
struct alignas(64) Posted {
  std::byte bytes[64];
  template <class T>
  T as() const {
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return value;
  }
};
/// Posts this lane's bytes and returns what every lane posted, good until this lane posts again.
const Posted* post(const void* mine, std::size_t bytes);
template <class T>
const Posted* post(const T& mine) {
  static_assert(sizeof(T) <= sizeof(Posted));
  return post(&mine, sizeof(T));
}
std::byte* shared_bytes(std::size_t needed);
/// Throws unless `bytes` at this address, a multiple of them, lie in that memory.
enum class Memory { global, shared };
void require_place(const void* address, std::size_t bytes, Memory memory);
void wrote_shared(const void* to, std::size_t bytes);
void cp_async(void* to, const void* from, bool valid);
void cp_async_commit();
void cp_async_wait(int groups);

/// Lets the host at the device's memory, for as long as a kernel runs. Memory that is always there needs neither.
struct MemoryDoor {
  std::function<void()> open, close;
};
MemoryDoor& memory_door();

/// Holds the door open.
class Inside {
 public:
  Inside() {
    if (memory_door().open) memory_door().open();
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  ~Inside() {
    if (memory_door().close) memory_door().close();
  }
};

void run(dim3 blocks, unsigned threads, std::size_t shared_bytes, const std::function<void()>& kernel);

}  // namespace emulated

template <class T>
T& shared_memory() {
  static_assert(alignof(T) <= 1024);
  return *reinterpret_cast<T*>(emulated::shared_bytes(sizeof(T)));
}

inline bfloat16 round_to_bfloat16(float x) { return bfloat16(x); }
inline unsigned pack_bfloat16(float low, float high) {
  return static_cast<unsigned>(bfloat16(low).bits) | static_cast<unsigned>(bfloat16(high).bits) << 16;
}

void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
void ldmatrix_x4(unsigned (&r)[4], const void* row);
void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row);

inline void cp_async(void* to_shared, const void* from, bool valid = true) {
  emulated::cp_async(to_shared, from, valid);
}
inline void cp_async_commit() { emulated::cp_async_commit(); }
template <int groups>
void cp_async_wait() {
  emulated::cp_async_wait(groups);
}

template <int words>
void store_words(void* to, const unsigned (&word)[words]) {
  emulated::require_place(to, sizeof(word), emulated::Memory::global);
  std::memcpy(to, word, sizeof(word));
}
template <int words>
void store_shared_words(void* to, const unsigned (&word)[words]) {
  emulated::require_place(to, sizeof(word), emulated::Memory::shared);
  std::memcpy(to, word, sizeof(word));
  emulated::wrote_shared(to, sizeof(word));
}

inline int anew(int x) { return x; }
inline float exp2_fast(float x) { return std::exp2(x); }

/// Everything has happened on return. An error is that of the kernel, whose type stands for its name.
template <class... Parameters, class... Arguments>
void launch(const Stream& /*stream*/, dim3 blocks, unsigned threads, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  try {
    emulated::run(blocks, threads, shared_bytes, [&] { kernel(static_cast<Parameters>(arguments)...); });
  } catch (const Error& error) {
    with_arguments<Parameters...>(
        [&](std::span<const Argument> given) {
          fail("{} in {}", error.what(),
               describe({typeid(*kernel).name(), {blocks.x, blocks.y, blocks.z}, threads, shared_bytes, given}));
        },
        arguments...);
  }
}

}  // namespace lexring::cuda

// ---- CUDA's own functions, as far as kernels use them.

inline void __syncthreads() { lexring::cuda::emulated::block_barrier(); }
inline void __syncwarp() { lexring::cuda::emulated::warp_barrier(); }
template <class T>
T __shfl_sync(unsigned /*mask*/, T value, int lane) {
  return lexring::cuda::emulated::post(value)[lane & 31].template as<T>();
}
template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int lanes) {
  return __shfl_sync(0, value, static_cast<int>(threadIdx.x % 32) ^ lanes);
}
inline bool __any_sync(unsigned /*mask*/, bool value) {
  const auto* const lanes = lexring::cuda::emulated::post(value);
  return std::any_of(lanes, lanes + 32, [](const auto& lane) { return lane.template as<bool>(); });
}
inline float atomicAdd(float* address, float value) {
  const float before = *address;
  *address += value;
  return before;
}
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0F / std::sqrt(x); }
