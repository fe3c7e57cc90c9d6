#include <algorithm>
#include <numeric>

#include "framework/backend/cuda/array_list.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_size;

template <class T>
constexpr int vector = 16 / static_cast<int>(sizeof(T));  ///< elements of one access

// ---- Sum of squares

constexpr int vectors_at_once = 4;
constexpr int of_squares_block = 1 << 16;  ///< elements

struct WarpSums {
  double of[warps];
};

template <int n>
__device__ void add_squares(const Floats<n>& x, double& sum) {
  LEXRING_UNROLL for (int j = 0; j < n; ++j) {
    const double wide = x[j];
    sum += wide * wide;
  }
}

template <class T>
struct Squared : ArrayItem {
  const T* x;
};
union SquaresShared {
  int item;
  WarpSums sums;
};

/// sums[block], of its part of one array. Bytes: x read.
template <class T>
__global__ void __launch_bounds__(threads) squares(const Squared<T>* arrays, int count, double* sums) {
  constexpr int n = vector<T>, at_once = n * threads;
  auto& shared = shared_memory<SquaresShared>();
  const Squared<T> array = item_of_block(arrays, count, shared.item);
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) - array.first_block) * of_squares_block;
  const auto rest = static_cast<int>(array.count - first < of_squares_block ? array.count - first : of_squares_block);
  const T* const x = array.x + first;
  const int me = static_cast<int>(threadIdx.x), whole = aligned(x) ? rest / n * n : 0;
  double sum[vectors_at_once] = {};
  int at = me * n;
  for (; at + (vectors_at_once - 1) * at_once < whole; at += vectors_at_once * at_once) {
    Floats<n> part[vectors_at_once];
    LEXRING_UNROLL for (int i = 0; i < vectors_at_once; ++i) part[i] = load<n>(x + at + i * at_once);
    LEXRING_UNROLL for (int i = 0; i < vectors_at_once; ++i) add_squares(part[i], sum[i]);
  }
  for (; at < whole; at += at_once) add_squares(load<n>(x + at), sum[0]);
  for (int i = whole + me; i < rest; i += threads) add_squares(load<1>(x + i), sum[1]);

  double mine = 0;
  LEXRING_UNROLL for (int i = 0; i < vectors_at_once; ++i) mine += sum[i];
  LEXRING_UNROLL for (int distance = warp_size / 2; distance > 0; distance /= 2) mine +=
      __shfl_xor_sync(whole_warp, mine, distance);
  __syncthreads();  // everybody knows its item
  if (threadIdx.x % warp_size == 0) shared.sums.of[threadIdx.x / warp_size] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double all = 0;
  LEXRING_UNROLL for (int i = 0; i < warps; ++i) all += shared.sums.of[i];
  sums[blockIdx.x] = all;
}

// ---- Column sums

template <class T>
constexpr int strip = warp_size* vector<T>;  ///< columns of a block
constexpr int rows_at_once = 4;

template <class T>
struct StripSums {
  alignas(16) float of[warps][strip<T>];
};

/// to[segment, W] = (or += where told) column sums of the segment's rows. A block takes a strip of columns, its warps
/// take turns along the segment. Bytes: x read.
template <class T, bool vectors>
__global__ void __launch_bounds__(threads) sums_of_columns(const T* x, std::int64_t rows, std::int64_t width,
                                                           std::int64_t segment_rows, float* to, bool accumulate) {
  constexpr int n = vector<T>;
  const int warp = static_cast<int>(threadIdx.x) / warp_size, lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.x) * strip<T>,
                     first_row = blockIdx.y * segment_rows;
  const std::int64_t last_row = first_row + segment_rows < rows ? first_row + segment_rows : rows;
  // Threads beyond the last column read the strip's first ones, and drop them.
  const auto at = [&](int column) { return x + first_column + (first_column + column < width ? column : 0); };
  const auto read = [&](std::int64_t row) {
    if constexpr (vectors) {
      return load<n>(at(lane * n) + row * width);
    } else {
      Floats<n> part;
      LEXRING_UNROLL for (int j = 0; j < n; ++j) part[j] = to_float(at(lane + j * warp_size)[row * width]);
      return part;
    }
  };
  Floats<n> sum;
  LEXRING_UNROLL for (int j = 0; j < n; ++j) sum[j] = 0;
  std::int64_t row = first_row + warp;
  for (; row + (rows_at_once - 1) * warps < last_row; row += rows_at_once * warps) {
    Floats<n> part[rows_at_once];
    LEXRING_UNROLL for (int i = 0; i < rows_at_once; ++i) part[i] = read(row + i * warps);
    LEXRING_UNROLL for (int i = 0; i < rows_at_once; ++i) {
      LEXRING_UNROLL for (int j = 0; j < n; ++j) sum[j] += part[i][j];
    }
  }
  for (; row < last_row; row += warps) {
    const Floats<n> part = read(row);
    LEXRING_UNROLL for (int j = 0; j < n; ++j) sum[j] += part[j];
  }

  auto& shared = shared_memory<StripSums<T>>();
  if constexpr (vectors) {
    LEXRING_UNROLL for (int j = 0; j < n; j += 4) {
      store_shared<4>(&shared.of[warp][lane * n + j], Floats<4>{{sum[j], sum[j + 1], sum[j + 2], sum[j + 3]}});
    }
  } else {
    LEXRING_UNROLL for (int j = 0; j < n; ++j) shared.of[warp][lane + j * warp_size] = sum[j];
  }
  __syncthreads();
  const int me = static_cast<int>(threadIdx.x);
  if (me >= strip<T> || first_column + me >= width) return;
  float* const out = to + blockIdx.y * width + first_column + me;
  float all = shared.of[0][me];
  LEXRING_UNROLL for (int i = 1; i < warps; ++i) all += shared.of[i][me];
  *out = accumulate ? *out + all : all;
}

/// Column sums of `segments` parts of x.
template <class T>
void start(const Gpu& gpu, const T* x, std::int64_t rows, std::int64_t width, std::int64_t segments, float* to,
           bool accumulate) {
  const bool vectors = aligned(x) && width % vector<T> == 0;
  const dim3 blocks(static_cast<unsigned>(ceil_div<std::int64_t>(width, strip<T>)), static_cast<unsigned>(segments));
  launch(gpu.stream, blocks, threads, sizeof(StripSums<T>),
         vectors ? sums_of_columns<T, true> : sums_of_columns<T, false>, x, rows, width, ceil_div(rows, segments), to,
         accumulate);
}

}  // namespace

double sum_of_squares(const Gpu& gpu, std::span<const Tensor> x) {
  if (x.empty()) return 0;
  double sum = 0;
  with_type(x.front().dtype(), [&]<class T>(Type<T>) {
    ArrayList<Squared<T>> list(of_squares_block);
    for (const Tensor& part : x) {
      Squared<T> array{};
      array.count = part.elements(), array.x = part.data<T>();
      list.add(array);
    }
    if (list.empty()) return;
    const auto uploaded = list.upload(gpu.runtime);
    const Tensor sums(gpu.runtime, {list.block_count()}, Dtype::f64);
    launch(gpu.stream, list.blocks(), threads, sizeof(SquaresShared), squares<T>,
           reinterpret_cast<const Squared<T>*>(uploaded.get()), list.size(), sums.data<double>());
    const std::vector<double> parts = sums.to_host<double>();
    sum = std::accumulate(parts.begin(), parts.end(), 0.0);
  });
  return sum;
}

void column_sums(const Gpu& gpu, const Tensor& x, const Tensor& sums) {
  const std::int64_t rows = x.rows(), width = x.row_elements();
  if (rows == 0 || width == 0) return;
  with_type(x.dtype(), [&]<class T>(Type<T>) {
    // As many segments as keep the GPU busy, of enough rows to be worth a sum of their own.
    const std::int64_t strips = ceil_div<std::int64_t>(width, strip<T>);
    const std::int64_t busy = ceil_div<std::int64_t>(8LL * gpu.multiprocessors, strips);
    const std::int64_t most = ceil_div<std::int64_t>(rows, 2 * warps * rows_at_once);
    const std::int64_t segments = std::min(busy, most);
    if (segments == 1) return start(gpu, x.data<T>(), rows, width, 1, sums.data<float>(), true);
    const Tensor parts(gpu.runtime, {segments, width}, Dtype::f32);
    start(gpu, x.data<T>(), rows, width, segments, parts.data<float>(), false);
    start(gpu, parts.data<float>(), segments, width, 1, sums.data<float>(), true);
  });
}

}  // namespace lexring::cuda
