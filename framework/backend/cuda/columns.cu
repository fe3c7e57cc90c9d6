#include <algorithm>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;
constexpr int units_of_thread = 4;

/// What one access moves.
template <int bytes>
struct alignas(bytes) Unit {
  std::uint32_t word[bytes / 4];
};
template <>
struct Unit<2> {
  std::uint16_t word;
};

/// `lanes` threads to a row, `width` units of each row; strides in units. Bytes: all read and written once.
template <class U>
__global__ void __launch_bounds__(threads)
    copy_rows(const U* from, std::int64_t from_stride, U* to, std::int64_t to_stride, std::int64_t rows,
              std::int64_t width, int lanes) {
  const int me = static_cast<int>(threadIdx.x), lane = me % lanes;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (threads / lanes) + me / lanes;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * lanes * units_of_thread + lane;
  if (row >= rows) return;
  from += row * from_stride + first;
  to += row * to_stride + first;
  U unit[units_of_thread];
  LEXRING_UNROLL for (int i = 0; i < units_of_thread; ++i) {
    if (first + i * lanes < width) unit[i] = from[i * lanes];
  }
  LEXRING_UNROLL for (int i = 0; i < units_of_thread; ++i) {
    if (first + i * lanes < width) to[i * lanes] = unit[i];
  }
}

/// Rows in bytes.
struct Rows {
  std::byte* begin;
  std::int64_t stride;

  explicit Rows(const Columns& columns)
      : begin(columns.matrix.raw() + columns.first * size(columns)), stride(columns.stride() * size(columns)) {}
  static std::int64_t size(const Columns& columns) { return static_cast<std::int64_t>(size_of(columns.dtype())); }
  std::uintptr_t misalignment() const {
    return reinterpret_cast<std::uintptr_t>(begin) | static_cast<std::uintptr_t>(stride);
  }
};

template <int bytes>
void start(const Gpu& gpu, const Rows& from, const Rows& to, std::int64_t rows, std::int64_t width) {
  using U = Unit<bytes>;
  const std::int64_t units = width / bytes;
  int lanes = 1;
  while (lanes < threads && lanes * units_of_thread < units) lanes *= 2;
  const dim3 blocks(static_cast<unsigned>(ceil_div<std::int64_t>(rows, threads / lanes)),
                    static_cast<unsigned>(ceil_div<std::int64_t>(units, lanes * units_of_thread)));
  launch(gpu.stream, blocks, threads, 0, copy_rows<U>, reinterpret_cast<const U*>(from.begin), from.stride / bytes,
         reinterpret_cast<U*>(to.begin), to.stride / bytes, rows, units, lanes);
}

/// One element to a thread. Bytes: x read, y written.
template <class T>
__global__ void __launch_bounds__(threads)
    scale_elements(const T* x, std::int64_t x_stride, const float* by_row, const float* by_head, int head_width, T* y,
                   std::int64_t y_stride, std::int64_t rows, int width) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= rows * width) return;
  const std::int64_t row = i / width;
  const int column = static_cast<int>(i - row * width);
  const float factor = by_row[row] * (by_head != nullptr ? by_head[column / head_width] : 1.0F);
  y[row * y_stride + column] = from_float<T>(factor * to_float(x[row * x_stride + column]));
}

}  // namespace

void scale_queries(const Gpu& gpu, const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) {
  const std::int64_t elements = x.rows() * x.width;
  const int width = static_cast<int>(x.width),
            head_width = by_head.defined() ? width / static_cast<int>(by_head.elements()) : width;
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(elements, threads))), threads, 0,
           scale_elements<T>, static_cast<const T*>(x.data<T>()), x.stride(),
           static_cast<const float*>(by_row.data<float>()),
           by_head.defined() ? static_cast<const float*>(by_head.data<float>()) : nullptr, head_width, y.data<T>(),
           y.stride(), x.rows(), width);
  });
}

/// In the widest accesses that every row of both allows.
void copy(const Gpu& gpu, const Columns& x, const Columns& y) {
  const Rows from(x), to(y);
  const std::int64_t rows = x.rows(), width = x.width * Rows::size(x);
  const std::uintptr_t all = from.misalignment() | to.misalignment() | static_cast<std::uintptr_t>(width);
  if (all % 16 == 0) start<16>(gpu, from, to, rows, width);
  else if (all % 8 == 0) start<8>(gpu, from, to, rows, width);
  else if (all % 4 == 0) start<4>(gpu, from, to, rows, width);
  else start<2>(gpu, from, to, rows, width);
}

}  // namespace lexring::cuda
