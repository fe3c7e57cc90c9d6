#include <numeric>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;
constexpr int width = 8;  ///< elements of a thread

/// y = operation(x, y) by element. Bytes: x and y read (y only where it is added to), y written.
enum class Operation { fill, cast, add };

template <Operation operation, int n, class T, class U>
__device__ void apply(const T* x, U* y, float value) {
  Floats<n> result;
  if constexpr (operation == Operation::fill) {
    for (int j = 0; j < n; ++j) result[j] = value;
  } else {
    result = load<n>(x);
    if constexpr (operation == Operation::add) {
      const Floats<n> old = load<n>(static_cast<const U*>(y));
      for (int j = 0; j < n; ++j) result[j] += old[j];
    }
  }
  store<n>(y, result);
}

template <Operation operation, class T, class U>
__global__ void __launch_bounds__(threads)
    elementwise(const T* x, U* y, std::int64_t count, float value, bool vectors) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * width;
  if (vectors && first + width <= count) return apply<operation, width>(x + first, y + first, value);
  for (std::int64_t i = first; i < count && i < first + width; ++i) apply<operation, 1>(x + i, y + i, value);
}

template <Operation operation, class T, class U>
void start(const Gpu& gpu, const T* x, U* y, std::int64_t count, float value = 0) {
  const bool vectors = aligned(y) && (operation == Operation::fill || aligned(x));
  launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(count, threads * width))), threads, 0,
         elementwise<operation, T, U>, x, y, count, value, vectors);
}

/// A block takes `rows_of_block` rows of 32 columns' worth of threads. Bytes: y read and written.
constexpr int rows_of_block = threads / warp_size * 4;

template <class T>
__global__ void __launch_bounds__(threads)
    add_bias_to_rows(const float* bias, T* y, std::int64_t rows, std::int64_t columns) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * warp_size + threadIdx.x % warp_size;
  if (column >= columns) return;
  const float b = bias[column];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * rows_of_block;
  for (std::int64_t n = first + threadIdx.x / warp_size; n < first + rows_of_block && n < rows;
       n += threads / warp_size) {
    y[n * columns + column] = from_float<T>(to_float(y[n * columns + column]) + b);
  }
}

}  // namespace

void add_bias(const Gpu& gpu, const Tensor& bias, const Tensor& y) {
  const std::int64_t columns = bias.elements(), rows = columns == 0 ? 0 : y.elements() / columns;
  if (rows == 0) return;
  with_type(y.dtype(), [&]<class T>(Type<T>) {
    const dim3 blocks(static_cast<unsigned>(ceil_div<std::int64_t>(rows, rows_of_block)),
                      static_cast<unsigned>(ceil_div<std::int64_t>(columns, warp_size)));
    launch(gpu.stream, blocks, threads, 0, add_bias_to_rows<T>, bias.data<float>(), y.data<T>(), rows, columns);
  });
}

void fill(const Gpu& gpu, const Tensor& x, double value) {
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    start<Operation::fill>(gpu, x.data<T>(), x.data<T>(), x.elements(), static_cast<float>(value));
  });
}

void cast(const Gpu& gpu, const Tensor& x, const Tensor& y) {
  with_types(x.dtype(), y.dtype(), [&]<class T, class U>(Type<T>, Type<U>) {
    start<Operation::cast>(gpu, x.data<T>(), y.data<U>(), x.elements());
  });
}

void add(const Gpu& gpu, const Tensor& x, const Tensor& y) {
  with_types(x.dtype(), y.dtype(), [&]<class T, class U>(Type<T>, Type<U>) {
    start<Operation::add>(gpu, x.data<T>(), y.data<U>(), x.elements());
  });
}

}  // namespace lexring::cuda
