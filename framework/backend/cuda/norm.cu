#include <algorithm>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

// A row belongs to a warp or to a block and stays in its registers between the passes over it, so it is read once. Only
// a row that no block can hold is read again (`norm_wide_rows`, `norm_backward_wide_rows`).

/// Threads of a block whose rows have so many threads each.
template <int row_threads>
constexpr int block_threads = row_threads == warp_size ? 4 * warp_size : row_threads;
template <int row_threads>
constexpr int row_warps = row_threads / warp_size;
/// Of the kernels for rows that no block can hold.
constexpr int wide_threads = 512;

/// Elements of an access where a row consists of whole ones: 16 bytes of the larger type, so that a warp touches every
/// sector once.
template <class X, class Y>
constexpr int vector = 16 / static_cast<int>(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));

/// Sums over the threads of a row, each thread of which gets them. `between` (of a block's row): what its warps tell
/// each other; not to be used again before another barrier.
template <int row_threads, int n>
__device__ Floats<n> row_sums(Floats<n> x, Floats<n>* between) {
  LEXRING_UNROLL for (int j = 0; j < n; ++j) x[j] = warp_sum(x[j]);
  if constexpr (row_threads > warp_size) {
    if (threadIdx.x % warp_size == 0) between[threadIdx.x / warp_size] = x;
    __syncthreads();
    x = {};
    LEXRING_UNROLL for (int w = 0; w < row_warps<row_threads>; ++w) {
      const Floats<n> of_warp = between[w];
      LEXRING_UNROLL for (int j = 0; j < n; ++j) x[j] += of_warp[j];
    }
  }
  return x;
}

/// Where rows begin (framework/backend/backend.h: NormRows), counted in elements.
struct Places {
  std::int64_t first, stride;  ///< of the matrix
  int of_row, width;

  __device__ std::int64_t begin(std::int64_t row) const {
    if (of_row == 1) return row * stride + first;
    const std::int64_t whole = row >> 32 ? row / of_row : static_cast<unsigned>(row) / static_cast<unsigned>(of_row);
    return whole * stride + first + (row - whole * of_row) * width;
  }
  bool allow(int vector) const { return width % vector == 0 && first % vector == 0 && stride % vector == 0; }
};
Places places_of(const NormRows& rows, const Tensor& x, int width) {
  return {rows.first, x.row_elements(), static_cast<int>(rows.of_row), width};
}

// ---- forward

template <class X, class Y>
struct Forward {
  const X* x;
  const Y* delta;              ///< or null
  const float *weight, *bias;  ///< bias or null
  X* sum;
  Y* y;
  float *mean, *rstd;  ///< mean is null with rmsnorm
  std::int64_t rows;
  int width;
  Places places;
  float eps;
};

template <int row_threads>
struct ForwardShared {
  Floats<1> sums[2][row_warps<row_threads>];
};

template <int n, class Y>
__device__ void store_normed(Y* y, const float* weight, const float* bias, const Floats<n>& s, float mean, float rstd) {
  const Floats<n> w = load<n>(weight);
  Floats<n> b = {};
  if (bias) b = load<n>(bias);
  LEXRING_UNROLL for (int j = 0; j < n; ++j) b[j] += (s[j] - mean) * rstd * w[j];
  store<n>(y, b);
}

/// For width <= row_threads * kept. Bytes: x and delta read, sum, y written; weight and bias come from the cache.
template <int n, int row_threads, int kept, class X, class Y>
__global__ void __launch_bounds__(block_threads<row_threads>) norm_rows(Forward<X, Y> a) {
  constexpr int chunks = kept / n;
  auto& shared = shared_memory<ForwardShared<row_threads>>();
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (block_threads<row_threads> / row_threads) + threadIdx.x / row_threads;
  if (row >= a.rows) return;  // a whole warp, and never one of a block that shares a row
  const int first = static_cast<int>(threadIdx.x % row_threads) * n, width = a.width;
  const std::int64_t begin = a.places.begin(row);
  Floats<n> s[chunks] = {};
  LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
    const int column = first + c * row_threads * n;
    if (column < width) s[c] = load<n>(a.x + begin + column);
  }
  if (a.delta) {
    LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
      const int column = first + c * row_threads * n;
      if (column >= width) continue;
      const Floats<n> delta = load<n>(a.delta + begin + column);
      LEXRING_UNROLL for (int j = 0; j < n; ++j) s[c][j] =
          to_float(from_float<X>(s[c][j] + delta[j]));  // what is stored is normalised
    }
    LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
      const int column = first + c * row_threads * n;
      if (column < width) store<n>(a.sum + begin + column, s[c]);
    }
  }
  float mean = 0;
  if (a.mean) {
    Floats<1> total = {};
    LEXRING_UNROLL for (int c = 0; c < chunks; ++c) { LEXRING_UNROLL for (int j = 0; j < n; ++j) total[0] += s[c][j]; }
    mean = row_sums<row_threads>(total, shared.sums[0])[0] / static_cast<float>(width);
  }
  Floats<1> square = {};
  LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
    if (first + c * row_threads * n >= width) continue;
    LEXRING_UNROLL for (int j = 0; j < n; ++j) square[0] += (s[c][j] - mean) * (s[c][j] - mean);
  }
  const float rstd = 1.0F / sqrtf(row_sums<row_threads>(square, shared.sums[1])[0] / static_cast<float>(width) + a.eps);
  LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
    const int column = first + c * row_threads * n;
    if (column < width)
      store_normed<n>(a.y + begin + column, a.weight + column, a.bias ? a.bias + column : nullptr, s[c], mean, rstd);
  }
  if (first == 0) {
    if (a.mean) a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

/// Any width, a block for each row. Bytes: as above, and what was normalised read twice more (once with rmsnorm).
template <int n, class X, class Y>
__global__ void __launch_bounds__(wide_threads) norm_wide_rows(Forward<X, Y> a) {
  auto& shared = shared_memory<ForwardShared<wide_threads>>();
  const std::int64_t row = blockIdx.x, begin = a.places.begin(row);
  const int first = static_cast<int>(threadIdx.x) * n, step = wide_threads * n, width = a.width;
  const X* s = a.x + begin;
  if (a.delta) {  // each thread reads again only what it wrote
    for (int column = first; column < width; column += step) {
      Floats<n> x = load<n>(s + column);
      const Floats<n> delta = load<n>(a.delta + begin + column);
      LEXRING_UNROLL for (int j = 0; j < n; ++j) x[j] += delta[j];
      store<n>(a.sum + begin + column, x);
    }
    s = a.sum + begin;
  }
  float mean = 0;
  if (a.mean) {
    Floats<1> total = {};
    for (int column = first; column < width; column += step) {
      const Floats<n> x = load<n>(s + column);
      LEXRING_UNROLL for (int j = 0; j < n; ++j) total[0] += x[j];
    }
    mean = row_sums<wide_threads>(total, shared.sums[0])[0] / static_cast<float>(width);
  }
  Floats<1> square = {};
  for (int column = first; column < width; column += step) {
    const Floats<n> x = load<n>(s + column);
    LEXRING_UNROLL for (int j = 0; j < n; ++j) square[0] += (x[j] - mean) * (x[j] - mean);
  }
  const float rstd =
      1.0F / sqrtf(row_sums<wide_threads>(square, shared.sums[1])[0] / static_cast<float>(width) + a.eps);
  for (int column = first; column < width; column += step)
    store_normed<n>(a.y + begin + column, a.weight + column, a.bias ? a.bias + column : nullptr, load<n>(s + column),
                    mean, rstd);
  if (first == 0) {
    if (a.mean) a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

template <int n, class X, class Y>
void start_forward(const Gpu& gpu, const Forward<X, Y>& call) {
  const auto with = [&]<int row_threads, int kept>() {
    constexpr int threads = block_threads<row_threads>;
    launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(call.rows, threads / row_threads))), threads,
           sizeof(ForwardShared<row_threads>), norm_rows<n, row_threads, kept, X, Y>, call);
  };
  if (call.width <= 32 * 32) return with.template operator()<32, 32>();
  if (call.width <= 128 * 32) return with.template operator()<128, 32>();
  if (call.width <= 512 * 32) return with.template operator()<512, 32>();
  launch(gpu.stream, dim3(static_cast<unsigned>(call.rows)), wide_threads, sizeof(ForwardShared<wide_threads>),
         norm_wide_rows<n, X, Y>, call);
}

// ---- backward
//
// With h = (s - mean) rstd and g = dy weight: ds = rstd (g - [layernorm: average of g] - h * average of g h) + dsum,
// dweight = column sums of dy h, dbias = column sums of dy. Every block takes each gridDim.x-th of the rows (or of
// groups of them) and sums its columns in shared memory, where a thread touches only its own. It leaves them as one row
// of `partial`, which a second kernel adds up.

template <class X, class Y>
struct Backward {
  const Y* dy;
  const X* s;
  const float *weight, *mean, *rstd;  ///< mean is null with rmsnorm
  const X* dsum;                      ///< or null; may be ds
  X* ds;
  Y* ddelta;       ///< or null
  float* partial;  ///< [blocks, 2, width]: dweight, dbias
  std::int64_t rows;
  int width;
  Places places;
};

/// Followed by [rows of a block, 2, padded width] sums.
template <int row_threads>
struct BackwardShared {
  alignas(16) Floats<2> sums[2][row_warps<row_threads>];  ///< two, used in turn: one barrier per row
};

/// A row of sums in shared memory starts at a multiple of 16 bytes.
__host__ __device__ inline int padded(int width) { return ceil_div(width, 4) * 4; }

/// Where sums of columns lie.
enum class ColumnSums { shared, global };
template <ColumnSums where, int n>
__device__ void put(float* to, const Floats<n>& x) {
  if constexpr (where == ColumnSums::shared) store_shared<n>(to, x);
  else store<n>(to, x);
}
template <ColumnSums where, int n>
__device__ void add_to(float* to, const Floats<n>& x) {
  Floats<n> sum = load<n>(static_cast<const float*>(to));
  LEXRING_UNROLL for (int j = 0; j < n; ++j) sum[j] += x[j];
  put<where, n>(to, sum);
}
/// s and dy become h and g; their part of the sums of the row (g h, g) and of the columns is added.
template <ColumnSums where, int n>
__device__ void normalise(Floats<n>& s, Floats<n>& dy, float mean, float rstd, const float* weight, Floats<2>& sums,
                          float* dweight, float* dbias) {
  const Floats<n> w = load<n>(weight);
  Floats<n> product;
  if (dbias) add_to<where, n>(dbias, dy);
  LEXRING_UNROLL for (int j = 0; j < n; ++j) {
    s[j] = (s[j] - mean) * rstd;
    product[j] = dy[j] * s[j];
    dy[j] *= w[j];
    sums[0] += dy[j] * s[j];
    sums[1] += dy[j];
  }
  add_to<where, n>(dweight, product);
}
template <int n, class X, class Y>
__device__ void store_gradient(const Backward<X, Y>& a, std::int64_t i, const Floats<n>& h, const Floats<n>& g,
                               Floats<n> residual, float dot, float average, float rstd) {
  LEXRING_UNROLL for (int j = 0; j < n; ++j) residual[j] += (g[j] - average - h[j] * dot) * rstd;
  store<n>(a.ds + i, residual);
  if (a.ddelta) store<n>(a.ddelta + i, residual);
}

/// For width <= row_threads * kept. Bytes: s, dy, dsum read, ds, ddelta written; per block 8 * width for `partial`.
template <int n, int row_threads, int kept, int resident, class X, class Y>
__global__ void __launch_bounds__(block_threads<row_threads>, resident) norm_backward_rows(Backward<X, Y> a) {
  constexpr int chunks = kept / n, together = block_threads<row_threads> / row_threads;
  constexpr bool early = kept <= 16;  // whether registers hold dsum as well, asked for with the rest
  auto& shared = shared_memory<BackwardShared<row_threads>>();
  const int first = static_cast<int>(threadIdx.x % row_threads) * n, slot = static_cast<int>(threadIdx.x) / row_threads,
            width = a.width;
  float* const sums_of_rows = reinterpret_cast<float*>(&shared + 1);
  float *const dweight = sums_of_rows + slot * 2 * padded(width), *const dbias = dweight + padded(width);
  LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
    const int column = first + c * row_threads * n;
    if (column < width)
      put<ColumnSums::shared, n>(dweight + column, Floats<n>{}),
          put<ColumnSums::shared, n>(dbias + column, Floats<n>{});
  }
  int turn = 0;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * together;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * together + slot; row < a.rows;
       row += stride, turn = 1 - turn) {
    const std::int64_t begin = a.places.begin(row);
    Floats<n> h[chunks], g[chunks], residual[chunks] = {};
    LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
      const int column = first + c * row_threads * n;
      if (column < width) h[c] = load<n>(a.s + begin + column), g[c] = load<n>(a.dy + begin + column);
    }
    if (early && a.dsum) {
      LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
        const int column = first + c * row_threads * n;
        if (column < width) residual[c] = load<n>(a.dsum + begin + column);
      }
    }
    const float mean = a.mean ? a.mean[row] : 0.0F, rstd = a.rstd[row];
    Floats<2> sums = {};
    LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
      const int column = first + c * row_threads * n;
      if (column < width)
        normalise<ColumnSums::shared, n>(h[c], g[c], mean, rstd, a.weight + column, sums, dweight + column,
                                         a.mean ? dbias + column : nullptr);
    }
    sums = row_sums<row_threads>(sums, shared.sums[turn]);
    const float dot = sums[0] / static_cast<float>(width),
                average = a.mean ? sums[1] / static_cast<float>(width) : 0.0F;
    LEXRING_UNROLL for (int c = 0; c < chunks; ++c) {
      const int column = first + c * row_threads * n;
      if (column >= width) continue;
      if (!early && a.dsum) residual[c] = load<n>(a.dsum + begin + column);
      store_gradient<n>(a, begin + column, h[c], g[c], residual[c], dot, average, rstd);
    }
  }
  __syncthreads();
  float* const partial = a.partial + static_cast<std::int64_t>(blockIdx.x) * 2 * width;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * width; i += block_threads<row_threads>) {
    const int column = i < width ? i : padded(width) + i - width;
    float total = 0;
    LEXRING_UNROLL for (int k = 0; k < together; ++k) total += sums_of_rows[k * 2 * padded(width) + column];
    partial[i] = total;
  }
}

/// Any width; column sums are kept in `partial`. Bytes: as above, and s and dy read again, and 16 for the sums.
template <int n, class X, class Y>
__global__ void __launch_bounds__(wide_threads) norm_backward_wide_rows(Backward<X, Y> a) {
  auto& shared = shared_memory<BackwardShared<wide_threads>>();
  const int first = static_cast<int>(threadIdx.x) * n, step = wide_threads * n, width = a.width;
  float *const dweight = a.partial + static_cast<std::int64_t>(blockIdx.x) * 2 * width, *const dbias = dweight + width;
  for (int column = first; column < width; column += step)
    store<n>(dweight + column, Floats<n>{}), store<n>(dbias + column, Floats<n>{});
  int turn = 0;
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x, turn = 1 - turn) {
    const std::int64_t begin = a.places.begin(row);
    const float mean = a.mean ? a.mean[row] : 0.0F, rstd = a.rstd[row];
    Floats<2> sums = {};
    for (int column = first; column < width; column += step) {
      Floats<n> h = load<n>(a.s + begin + column), g = load<n>(a.dy + begin + column);
      normalise<ColumnSums::global, n>(h, g, mean, rstd, a.weight + column, sums, dweight + column,
                                       a.mean ? dbias + column : nullptr);
    }
    sums = row_sums<wide_threads>(sums, shared.sums[turn]);
    const float dot = sums[0] / static_cast<float>(width),
                average = a.mean ? sums[1] / static_cast<float>(width) : 0.0F;
    for (int column = first; column < width; column += step) {
      Floats<n> h = load<n>(a.s + begin + column), g = load<n>(a.dy + begin + column), residual = {};
      const Floats<n> w = load<n>(a.weight + column);
      if (a.dsum) residual = load<n>(a.dsum + begin + column);
      LEXRING_UNROLL for (int j = 0; j < n; ++j) h[j] = (h[j] - mean) * rstd, g[j] *= w[j];
      store_gradient<n>(a, begin + column, h, g, residual, dot, average, rstd);
    }
  }
}

constexpr int sum_warps = 16;

struct PartialShared {
  float sums[sum_warps][warp_size];
};

/// dweight, dbias (or null) += column sums of partial [blocks, 2, width]; 32 columns for each block, and each of its
/// warps takes every 16th row.
__global__ void __launch_bounds__(sum_warps* warp_size)
    add_partial_sums(const float* partial, int blocks, int width, float* dweight, float* dbias) {
  auto& shared = shared_memory<PartialShared>();
  const int lane = static_cast<int>(threadIdx.x) % warp_size, warp = static_cast<int>(threadIdx.x) / warp_size;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * warp_size + lane;
  const bool inside = column < (dbias ? 2 : 1) * static_cast<std::int64_t>(width);
  float sum = 0;
  LEXRING_UNROLL for (int b = warp; b < blocks; b += sum_warps) {
    if (inside) sum += partial[static_cast<std::int64_t>(b) * 2 * width + column];
  }
  shared.sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || !inside) return;
  sum = 0;
  LEXRING_UNROLL for (int w = 0; w < sum_warps; ++w) sum += shared.sums[w][lane];
  if (column >= width) dbias[column - width] += sum;
  else if (dweight) dweight[column] += sum;
}

/// How many blocks share the rows: what a GPU holds at once, but no fewer than four rows for each, so that `partial`
/// stays small.
std::int64_t backward_blocks(const Gpu& gpu, std::int64_t rows, int together, int resident) {
  return std::min(ceil_div<std::int64_t>(rows, 4 * together),
                  static_cast<std::int64_t>(gpu.multiprocessors) * resident);
}

template <int n, class X, class Y>
void start_backward(const Gpu& gpu, Backward<X, Y> call, float* dweight, float* dbias) {
  Tensor partial;
  const auto make_partial = [&](std::int64_t blocks) {
    partial = Tensor(gpu.runtime, {blocks, 2 * static_cast<std::int64_t>(call.width)}, Dtype::f32);
    call.partial = partial.data<float>();
    return dim3(static_cast<unsigned>(blocks));
  };
  const auto with = [&]<int row_threads, int kept, int resident>() {
    constexpr int threads = block_threads<row_threads>, together = threads / row_threads;
    const dim3 blocks = make_partial(backward_blocks(gpu, call.rows, together, resident));
    const std::size_t columns = static_cast<std::size_t>(together) * 2 * static_cast<std::size_t>(padded(call.width));
    launch(gpu.stream, blocks, threads, sizeof(BackwardShared<row_threads>) + sizeof(float) * columns,
           norm_backward_rows<n, row_threads, kept, resident, X, Y>, call);
  };
  if (call.width <= 32 * 16) {
    with.template operator()<32, 16, 5>();
  } else if (call.width <= 128 * 16) {
    with.template operator()<128, 16, 5>();
  } else if (call.width <= 512 * 16) {
    with.template operator()<512, 16, 1>();
  } else if (call.width <= 512 * 32) {
    with.template operator()<512, 32, 1>();
  } else {
    const dim3 blocks = make_partial(backward_blocks(gpu, call.rows, 1, 2));
    launch(gpu.stream, blocks, wide_threads, sizeof(BackwardShared<wide_threads>), norm_backward_wide_rows<n, X, Y>,
           call);
  }
  if (!dweight && !dbias) return;
  launch(gpu.stream,
         dim3(static_cast<unsigned>(
             ceil_div((dbias ? 2 : 1) * static_cast<std::int64_t>(call.width), std::int64_t{warp_size}))),
         sum_warps * warp_size, sizeof(PartialShared), add_partial_sums, static_cast<const float*>(call.partial),
         static_cast<int>(partial.rows()), call.width, dweight, dbias);
}

template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

}  // namespace

void norm(const Gpu& gpu, const NormForward& call) {
  const int width = static_cast<int>(call.weight.elements());
  if (call.x.elements() == 0) return;
  with_types(call.x.dtype(), call.y.dtype(), [&]<class X, class Y>(Type<X>, Type<Y>) {
    const Forward<X, Y> c{call.x.data<X>(),
                          data_or_null<Y>(call.delta),
                          call.weight.data<float>(),
                          data_or_null<float>(call.bias),
                          data_or_null<X>(call.sum),
                          call.y.data<Y>(),
                          call.kind == NormKind::layernorm ? call.mean.data<float>() : nullptr,
                          call.rstd.data<float>(),
                          call.rows.count(call.x),
                          width,
                          places_of(call.rows, call.x, width),
                          static_cast<float>(call.eps)};
    const bool vectors = c.places.allow(vector<X, Y>) && aligned(c.x) && aligned(c.delta) && aligned(c.weight) &&
                         aligned(c.bias) && aligned(c.sum) && aligned(c.y);
    if (vectors) start_forward<vector<X, Y>>(gpu, c);
    else start_forward<1>(gpu, c);
  });
}

void norm_backward(const Gpu& gpu, const NormBackward& call) {
  const int width = static_cast<int>(call.weight.elements());
  if (call.s.elements() == 0) return;
  with_types(call.s.dtype(), call.dy.dtype(), [&]<class X, class Y>(Type<X>, Type<Y>) {
    const Backward<X, Y> c{call.dy.data<Y>(),
                           call.s.data<X>(),
                           call.weight.data<float>(),
                           call.kind == NormKind::layernorm ? call.mean.data<float>() : nullptr,
                           call.rstd.data<float>(),
                           data_or_null<X>(call.dsum),
                           call.ds.data<X>(),
                           data_or_null<Y>(call.ddelta),
                           nullptr,
                           call.rows.count(call.s),
                           width,
                           places_of(call.rows, call.s, width)};
    const bool vectors = c.places.allow(vector<X, Y>) && aligned(c.dy) && aligned(c.s) && aligned(c.weight) &&
                         aligned(c.dsum) && aligned(c.ds) && aligned(c.ddelta);
    if (vectors)
      start_backward<vector<X, Y>>(gpu, c, data_or_null<float>(call.dweight), data_or_null<float>(call.dbias));
    else start_backward<1>(gpu, c, data_or_null<float>(call.dweight), data_or_null<float>(call.dbias));
  });
}

}  // namespace lexring::cuda
