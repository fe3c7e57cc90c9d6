#include "framework/backend/cuda/gpu.h"
#include "parallel/comm/gpu/device_fold.h"

namespace lexring {
namespace {

using namespace cuda;

constexpr int threads = 256;
constexpr int width = 8;  ///< elements of a thread

template <class T>
__device__ const T* part(const T* own, const T* others, std::int64_t stride, int rank, int r) {
  return r == rank ? own : others + (r < rank ? r : r - 1) * stride;
}

/// Bytes: every rank's part read, one written.
template <class T>
__device__ void add_many(T* own, const T* others, std::int64_t stride, int rank, int ranks, std::int64_t i) {
  Floats<width> sum = load<width>(part<T>(own, others, stride, rank, 0) + i);
  for (int r = 1; r < ranks; ++r) {
    const Floats<width> x = load<width>(part<T>(own, others, stride, rank, r) + i);
    LEXRING_UNROLL for (int j = 0; j < width; ++j) sum[j] += x[j];
  }
  store<width>(own + i, sum);
}

template <class T>
__device__ void add_one(T* own, const T* others, std::int64_t stride, int rank, int ranks, std::int64_t i) {
  if constexpr (sizeof(T) == sizeof(double)) {
    double sum = part<T>(own, others, stride, rank, 0)[i];
    for (int r = 1; r < ranks; ++r) sum += part<T>(own, others, stride, rank, r)[i];
    own[i] = sum;
  } else {
    float sum = to_float(part<T>(own, others, stride, rank, 0)[i]);
    for (int r = 1; r < ranks; ++r) sum += to_float(part<T>(own, others, stride, rank, r)[i]);
    own[i] = from_float<T>(sum);
  }
}

template <class T>
__global__ void __launch_bounds__(threads)
    fold_kernel(T* own, const T* others, std::int64_t stride, std::int64_t count, int rank, int ranks, bool vectors) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * width;
  if constexpr (sizeof(T) < sizeof(double)) {
    if (vectors && first + width <= count) return add_many(own, others, stride, rank, ranks, first);
  }
  for (std::int64_t i = first; i < count && i < first + width; ++i) add_one(own, others, stride, rank, ranks, i);
}

template <class T>
void start(CUstream_st* stream, std::byte* own, const std::byte* others, std::int64_t stride, std::int64_t count,
           int rank, int ranks) {
  auto* const to = reinterpret_cast<T*>(own);
  const auto* const from = reinterpret_cast<const T*>(others);
  const bool vectors = aligned(to) && aligned(from) && stride * static_cast<std::int64_t>(sizeof(T)) % 16 == 0;
  launch({stream}, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(count, threads * width))), threads, 0,
         fold_kernel<T>, to, from, stride, count, rank, ranks, vectors);
}

}  // namespace

void fold_on_device(CUstream_st* stream, Dtype dtype, std::byte* own, const std::byte* others, std::int64_t stride,
                    std::int64_t count, int rank, int ranks) {
  switch (dtype) {
    case Dtype::f32:
      return start<float>(stream, own, others, stride, count, rank, ranks);
    case Dtype::bf16:
      return start<bfloat16>(stream, own, others, stride, count, rank, ranks);
    case Dtype::f64:
      return start<double>(stream, own, others, stride, count, rank, ranks);
    case Dtype::i32:
      break;
  }
  fail("a reduction of {} was asked for; reduce floating values", name_of(dtype));
}

}  // namespace lexring
