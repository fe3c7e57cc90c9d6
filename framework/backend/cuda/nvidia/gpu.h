/// gpu.h on a GPU. Instructions that CUDA C++ has no function for: PTX ISA 9.7.13 (mma, ldmatrix), 9.7.9 (cp.async).
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "framework/backend/cuda/nvidia/launch.h"
#include "framework/tensor/dtype.h"

namespace lexring::cuda {

template <class T>
__device__ __forceinline__ T& shared_memory() {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  return *reinterpret_cast<T*>(shared_bytes);
}

__device__ __forceinline__ bfloat16 round_to_bfloat16(float x) {
  bfloat16 rounded;
  rounded.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
  return rounded;
}

/// Two rounded numbers in one register, `low` in the lower half: an operand of mma.
__device__ __forceinline__ unsigned pack_bfloat16(float low, float high) {
  unsigned packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// d [16, 8] f32 += a [16, 16] b [16, 8], bf16. Lane l, g = l / 4, t = l % 4, holds of a: rows g and g + 8 at columns
/// 2t, 2t+1 (a[0], a[1]) and 2t+8, 2t+9 (a[2], a[3]); of b: column g at rows 2t, 2t+1 (b[0]) and 2t+8, 2t+9 (b[1]); of
/// d: row g (d[0], d[1]) and g + 8 (d[2], d[3]) at columns 2t, 2t+1.
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// Four 8 x 8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned),
/// and gets of matrix j its row l / 4, columns 2 (l % 4) and the next, in r[j].
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
/// The same of the transposed matrices: column l / 4, rows 2 (l % 4) and the next.
__device__ __forceinline__ void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// 16 bytes from global to shared memory, or zeros where not `valid` (then `from` is not read, but must be an address).
/// Has arrived, for the thread that asked, after cp_async_wait; for others after a barrier besides.
__device__ __forceinline__ void cp_async(void* to_shared, const void* from, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to_shared)), "l"(from), "r"(bytes)
               : "memory");
}
/// Copies asked for since the last commit become one group.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
/// Waits until all but the newest `groups` groups of this thread have arrived.
template <int groups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(groups) : "memory");
}

/// One access of 4, 8 or 16 bytes to global memory, aligned to its size: nvcc takes stores of structs apart.
__device__ __forceinline__ void store_words(void* to, const unsigned (&word)[1]) {
  *static_cast<unsigned*>(to) = word[0];
}
__device__ __forceinline__ void store_words(void* to, const unsigned (&word)[2]) {
  asm volatile("st.global.v2.b32 [%0], {%1, %2};\n" ::"l"(__cvta_generic_to_global(to)), "r"(word[0]), "r"(word[1])
               : "memory");
}
__device__ __forceinline__ void store_words(void* to, const unsigned (&word)[4]) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(__cvta_generic_to_global(to)), "r"(word[0]),
               "r"(word[1]), "r"(word[2]), "r"(word[3])
               : "memory");
}

/// The same to shared memory.
__device__ __forceinline__ void store_shared_words(void* to, const unsigned (&word)[1]) {
  asm volatile("st.shared.b32 [%0], %1;\n" ::"r"(shared_address(to)), "r"(word[0]) : "memory");
}
__device__ __forceinline__ void store_shared_words(void* to, const unsigned (&word)[2]) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};\n" ::"r"(shared_address(to)), "r"(word[0]), "r"(word[1]) : "memory");
}
__device__ __forceinline__ void store_shared_words(void* to, const unsigned (&word)[4]) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"r"(shared_address(to)), "r"(word[0]), "r"(word[1]),
               "r"(word[2]), "r"(word[3])
               : "memory");
}

/// x, of which the compiler knows nothing: what follows from it is computed where it is needed, in a loop each time,
/// and takes no registers in between.
__device__ __forceinline__ int anew(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

/// 2^x, error below 2 units of the last place; 0 for -inf.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// `blocks` blocks of `threads` threads with so many bytes of shared memory each. Nothing happens for 0 blocks. An
/// error names the kernel: one of the start always, one of the kernel itself where the stream is checked.
template <class... Parameters, class... Arguments>
void launch(const Stream& stream, dim3 blocks, unsigned threads, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  const auto* const address = reinterpret_cast<const void*>(kernel);
  cudaError_t status = allow_shared_memory(address, shared_bytes);
  if (status == cudaSuccess) {
    kernel<<<blocks, threads, shared_bytes, stream.handle>>>(static_cast<Parameters>(arguments)...);
    status = started(stream);
  }
  if (status == cudaSuccess) return;
  with_arguments<Parameters...>(
      [&](std::span<const Argument> given) {
        launch_failed(status, address, {"", {blocks.x, blocks.y, blocks.z}, threads, shared_bytes, given});
      },
      arguments...);
}

}  // namespace lexring::cuda
