/// What kernels are written in: CUDA C++ and the few functions below. The same kernel source is compiled twice: by nvcc
/// for a GPU, and as plain C++ for tests, where a block's threads are fibers on the host (tests/emulated_cuda).
///
/// `Gpu` is what a kernel starts on. Rules that make both possible:
/// - shared memory comes from `shared_memory<T>()` alone, one struct per kernel; its size is a launch argument;
/// - a block has a multiple of 32 threads, and all 32 of a warp reach every warp-wide function (shuffles, mma,
///   ldmatrix);
/// - kernels start by `launch(stream, blocks, threads, shared_bytes, kernel, arguments...)`.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include "framework/backend/cuda/nvidia/gpu.h"
#else
#include <emulated_gpu.h>  // of tests/emulated_cuda: whoever compiles kernels as C++ brings what stands for a GPU
#endif

/// Unrolls the loop that follows; registers may be indexed only where the compiler does. Or so many times and not more:
/// what is loaded ahead must fit into registers.
#ifdef __CUDACC__
#define LEXRING_UNROLL _Pragma("unroll")
#define LEXRING_UNROLL_ONCE _Pragma("unroll 1")
#define LEXRING_UNROLL_FOUR_TIMES _Pragma("unroll 4")
#else
#define LEXRING_UNROLL
#define LEXRING_UNROLL_ONCE
#define LEXRING_UNROLL_FOUR_TIMES
#endif

namespace lexring::cuda {

inline constexpr int warp_size = 32;
inline constexpr unsigned whole_warp = 0xffffffffU;

template <class Integer>
__host__ __device__ constexpr Integer ceil_div(Integer a, Integer b) {
  return (a + b - 1) / b;
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
/// Rounds to nearest even; NaN stays NaN.
template <class T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline bfloat16 from_float<bfloat16>(float x) {
  return round_to_bfloat16(x);
}
/// Several numbers of one thread.
template <int n>
struct Floats {
  float value[n];
  __device__ float& operator[](int i) { return value[i]; }
  __device__ float operator[](int i) const { return value[i]; }
};

/// n elements of T as one or more accesses of at most 16 bytes; n * sizeof(T) is a power of two and `from` is aligned
/// to it, or to 16.
template <int n, class T>
__device__ Floats<n> load(const T* from) {
  constexpr int bytes = n * static_cast<int>(sizeof(T)), once = bytes < 16 ? n : 16 / static_cast<int>(sizeof(T));
  struct alignas(bytes < 16 ? bytes : 16) Access {
    T value[once];
  };
  Floats<n> x;
  LEXRING_UNROLL for (int i = 0; i < n; i += once) {
    const Access access = *reinterpret_cast<const Access*>(from + i);
    LEXRING_UNROLL for (int j = 0; j < once; ++j) x[i + j] = to_float(access.value[j]);
  }
  return x;
}
/// n elements as the words that they fill.
template <class T, int n>
struct alignas(n * sizeof(T)) Packed {
  unsigned word[n * sizeof(T) / 4];
};
template <class T, int n>
__device__ Packed<T, n> pack(const Floats<n>& x) {
  Packed<T, n> packed;
  if constexpr (sizeof(T) == 4) {
    LEXRING_UNROLL for (int i = 0; i < n; ++i) packed.word[i] = __float_as_uint(x[i]);
  } else {
    LEXRING_UNROLL for (int i = 0; i < n; i += 2) packed.word[i / 2] = pack_bfloat16(x[i], x[i + 1]);
  }
  return packed;
}
template <int n, class T>
__device__ void store(T* to, const Floats<n>& x) {
  constexpr int bytes = n * static_cast<int>(sizeof(T)), once = bytes < 16 ? n : 16 / static_cast<int>(sizeof(T));
  if constexpr (bytes < 4) {
    *to = from_float<T>(x[0]);
  } else {
    LEXRING_UNROLL for (int i = 0; i < n; i += once) {
      Floats<once> part;
      LEXRING_UNROLL for (int j = 0; j < once; ++j) part[j] = x[i + j];
      store_words(to + i, pack<T>(part).word);
    }
  }
}
/// The same to shared memory.
template <int n, class T>
__device__ void store_shared(T* to, const Floats<n>& x) {
  constexpr int bytes = n * static_cast<int>(sizeof(T)), once = bytes < 16 ? n : 16 / static_cast<int>(sizeof(T));
  static_assert(bytes >= 4);
  LEXRING_UNROLL for (int i = 0; i < n; i += once) {
    Floats<once> part;
    LEXRING_UNROLL for (int j = 0; j < once; ++j) part[j] = x[i + j];
    store_shared_words(to + i, pack<T>(part).word);
  }
}
/// Whether `load` and `store` may be used at this address and at multiples of 16 bytes from it.
template <class T>
__host__ __device__ bool aligned(const T* address) {
  return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

// ---- Reductions. Every thread gets the result; the order of additions is fixed.

__device__ inline float warp_sum(float x) {
  LEXRING_UNROLL for (int distance = warp_size / 2; distance > 0; distance /= 2) x +=
      __shfl_xor_sync(whole_warp, x, distance);
  return x;
}
__device__ inline float warp_max(float x) {
  LEXRING_UNROLL for (int distance = warp_size / 2; distance > 0; distance /= 2) x =
      fmaxf(x, __shfl_xor_sync(whole_warp, x, distance));
  return x;
}

}  // namespace lexring::cuda
