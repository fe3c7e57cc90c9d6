#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;

struct Shared {
  double sums[threads];
};

/// The sum over the threads up to this one; all of a block call it. In log2(threads) steps, always in one order.
__device__ double sum_so_far(Shared& shared, double x) {
  const int me = static_cast<int>(threadIdx.x);
  for (int distance = 1; distance < threads; distance *= 2) {
    __syncthreads();  // what was there has been read
    shared.sums[me] = x;
    __syncthreads();
    if (me >= distance) x += shared.sums[me - distance];
  }
  __syncthreads();
  shared.sums[me] = x;
  __syncthreads();
  return x;
}

/// One head per block, `threads` rows at a time. Bytes: logits read, sums written.
template <class T>
__global__ void __launch_bounds__(threads)
    sum_log_sigmoids(const T* logits, const float* before, std::int64_t rows, int heads, float* sums) {
  auto& shared = shared_memory<Shared>();
  const int head = static_cast<int>(blockIdx.x);
  double total = 0.0;
  if (before != nullptr) total = static_cast<double>(before[head]) + static_cast<double>(before[heads + head]);
  for (std::int64_t first = 0; first < rows; first += threads) {
    const std::int64_t n = first + threadIdx.x;
    const float x = n < rows ? to_float(logits[n * heads + head]) : 0.0F;
    const float log_sigmoid = fminf(x, 0.0F) - log1pf(expf(-fabsf(x)));
    const double sum = total + sum_so_far(shared, n < rows ? static_cast<double>(log_sigmoid) : 0.0);
    total += shared.sums[threads - 1];
    if (n >= rows) continue;
    const auto high = static_cast<float>(sum);
    sums[n * 2 * heads + head] = high;
    sums[(n * 2 + 1) * heads + head] = static_cast<float>(sum - static_cast<double>(high));
  }
}

/// The same from the last row on. Bytes: logits and dsums read, dlogits written.
template <class T>
__global__ void __launch_bounds__(threads)
    sum_gradients_back(const T* logits, const float* dsums, std::int64_t rows, int heads, T* dlogits) {
  auto& shared = shared_memory<Shared>();
  const int head = static_cast<int>(blockIdx.x);
  double total = 0.0;
  for (std::int64_t behind = 0; behind < rows; behind += threads) {
    const std::int64_t n = rows - 1 - behind - threadIdx.x;
    const double own = n >= 0 ? static_cast<double>(dsums[n * heads + head]) : 0.0;
    const double sum = total + sum_so_far(shared, own);
    total += shared.sums[threads - 1];
    if (n >= 0)
      dlogits[n * heads + head] =
          from_float<T>(static_cast<float>(sum) / (1.0F + expf(to_float(logits[n * heads + head]))));
  }
}

}  // namespace

void forget_sums(const Gpu& gpu, const Tensor& logits, const Tensor& before, const Tensor& sums) {
  const auto heads = static_cast<int>(logits.dim(1));
  with_type(logits.dtype(), [&]<class T>(Type<T>) {
    launch(gpu.stream, dim3(static_cast<unsigned>(heads)), threads, sizeof(Shared), sum_log_sigmoids<T>,
           static_cast<const T*>(logits.data<T>()),
           static_cast<const float*>(before.defined() ? before.data<float>() : nullptr), logits.dim(0), heads,
           sums.data<float>());
  });
}

void forget_sums_backward(const Gpu& gpu, const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) {
  const auto heads = static_cast<int>(logits.dim(1));
  with_type(logits.dtype(), [&]<class T>(Type<T>) {
    launch(gpu.stream, dim3(static_cast<unsigned>(heads)), threads, sizeof(Shared), sum_gradients_back<T>,
           static_cast<const T*>(logits.data<T>()), static_cast<const float*>(dsums.data<float>()), logits.dim(0),
           heads, dlogits.data<T>());
  });
}

}  // namespace lexring::cuda
