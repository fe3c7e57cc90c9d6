#include <algorithm>
#include <bit>
#include <limits>

#include "framework/backend/cuda/dispatch.h"
#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"

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

struct StateRows {
  float *output, *maximum, *sum;
};

/// Bytes per element: 8 read, 4 written.
__global__ void __launch_bounds__(threads)
    merge_rows(StateRows from, StateRows into, std::int64_t rows, int width, int lanes, bool vectors) {
  const HeadRow place(lanes);
  const bool here = place.row < rows;
  const float theirs = here ? from.maximum[place.row] : 0.0F, ours = here ? into.maximum[place.row] : 0.0F,
              now = fmaxf(ours, theirs);
  const bool empty =
      !here || from.sum[place.row] == 0.0F;  // then nothing changes; a sum that is not a number is not lost
  const float keep = empty ? 1.0F : expf(ours - now), take = empty ? 0.0F : expf(theirs - now);
  __syncwarp();  // every lane has read the maximum
  if (empty) return;
  const float* const x = from.output + place.row * width;
  float* const y = into.output + place.row * width;
  if (vectors) {
    for (int e = place.lane * 4; e < width; e += lanes * 4) {
      const Floats<4> a = load<4>(x + e);
      Floats<4> b = load<4>(y + e);
      LEXRING_UNROLL for (int i = 0; i < 4; ++i) b[i] = keep * b[i] + take * a[i];
      store<4>(y + e, b);
    }
  } else {
    for (int e = place.lane; e < width; e += lanes) y[e] = keep * y[e] + take * x[e];
  }
  if (place.lane != 0) return;
  into.maximum[place.row] = now;
  into.sum[place.row] = keep * into.sum[place.row] + take * from.sum[place.row];
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

void attention_merge(const Gpu& gpu, const AttentionState& from, const AttentionState& into) {
  const std::int64_t rows = into.maximum.elements(), width = rows == 0 ? 0 : into.output.elements() / rows;
  const auto pointers = [](const AttentionState& state) {
    return StateRows{state.output.data<float>(), state.maximum.data<float>(), state.sum.data<float>()};
  };
  const StateRows x = pointers(from), y = pointers(into);
  const bool vectors = width % 4 == 0 && aligned(x.output) && aligned(y.output);
  const unsigned lanes = lanes_for(width, vectors ? 4 : 1);
  launch(gpu.stream, blocks_for(rows, lanes), threads, 0, merge_rows, x, y, rows, static_cast<int>(width),
         static_cast<int>(lanes), vectors);
}

}  // namespace lexring::cuda
