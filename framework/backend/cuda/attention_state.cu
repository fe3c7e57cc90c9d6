#include <algorithm>
#include <bit>
#include <limits>

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;

/// Rows of `width` numbers, each of `lanes` neighbouring threads of a warp.
struct HeadRow {
  std::int64_t row;
  int lane;

  __device__ explicit HeadRow(int lanes) {
    const std::int64_t task = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
    row = task / lanes;
    lane = static_cast<int>(task % lanes);
  }
};

/// As many lanes as have n numbers each to read, at most a warp.
unsigned lanes_for(std::int64_t width, std::int64_t n) {
  return std::bit_ceil(
      static_cast<unsigned>(std::min<std::int64_t>(std::max<std::int64_t>(ceil_div(width, n), 1), warp_size)));
}
dim3 blocks_for(std::int64_t rows, unsigned lanes) {
  return dim3(static_cast<unsigned>(ceil_div<std::int64_t>(rows * lanes, threads)));
}

/// Bytes per element: output and doutput read.
template <class T>
__global__ void __launch_bounds__(threads) delta_of_rows(const T* output, const T* doutput, float* delta,
                                                         std::int64_t rows, int width, int lanes, bool vectors) {
  constexpr int n = 16 / static_cast<int>(sizeof(T));
  const HeadRow place(lanes);
  float sum = 0.0F;
  if (place.row < rows) {
    const T *const o = output + place.row * width, *const g = doutput + place.row * width;
    if (vectors) {
      for (int e = place.lane * n; e < width; e += lanes * n) {
        const Floats<n> a = load<n>(o + e), b = load<n>(g + e);
        LEXRING_UNROLL for (int i = 0; i < n; ++i) sum = fmaf(a[i], b[i], sum);
      }
    } else {
      for (int e = place.lane; e < width; e += lanes) sum = fmaf(to_float(o[e]), to_float(g[e]), sum);
    }
  }
  for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(whole_warp, sum, distance);
  if (place.row < rows && place.lane == 0) delta[place.row] = sum;
}

}  // namespace

void attention_delta(const Gpu& gpu, const Tensor& output, const Tensor& doutput, const Tensor& delta) {
  const std::int64_t rows = delta.elements(), width = rows == 0 ? 0 : output.elements() / rows;
  with_type(output.dtype(), [&]<class T>(Type<T>) {
    constexpr std::int64_t n = 16 / sizeof(T);
    const bool vectors = width % n == 0 && aligned(output.data<T>()) && aligned(doutput.data<T>());
    const unsigned lanes = lanes_for(width, vectors ? n : 1);
    launch(gpu.stream, blocks_for(rows, lanes), threads, 0, delta_of_rows<T>, output.data<T>(), doutput.data<T>(),
           delta.data<float>(), rows, static_cast<int>(width), static_cast<int>(lanes), vectors);
  });
}

}  // namespace lexring::cuda
