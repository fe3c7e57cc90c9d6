#include "framework/backend/cuda/fused_rows.h"

#include "framework/backend/cuda/attention_decay.h"
#include "framework/backend/cuda/gpu.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;
constexpr int channels = 8;  ///< of a thread
constexpr float infinity = __builtin_huge_valf();

dim3 blocks(std::int64_t tasks) { return dim3(static_cast<unsigned>(ceil_div<std::int64_t>(tasks, threads))); }

__device__ std::int64_t this_task() { return static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x; }

/// Row `local` of a rectangle in its matrix.
__device__ std::int64_t row_of(const RectangleRows& rows, std::int64_t local) {
  return rows.first + local / rows.count * rows.step + local % rows.count;
}
/// Row `local` and a head in [batch, heads, count].
__device__ std::int64_t lse_of(const RectangleRows& rows, std::int64_t local, int head, int heads) {
  return (local / rows.count * heads + head) * rows.count + local % rows.count;
}

/// A warp per row and head. Bytes per element: 4 read and written, 2 read.
__global__ void __launch_bounds__(threads)
    merge_rows(RectangleRows rows, const bfloat16* output, const float* lse, int heads, int width, float* state_output,
               float* maximum, float* sum) {
  const std::int64_t task = this_task() / warp_size, local = task / heads;
  const int lane = static_cast<int>(threadIdx.x) % warp_size, head = static_cast<int>(task % heads);
  if (local >= rows.batch * rows.count) return;  // whole warps
  const std::int64_t at = row_of(rows, local) * heads + head;
  const float found = lse[lse_of(rows, local, head, heads)], before = maximum[at], total = sum[at];
  __syncwarp();
  if (found == -infinity) return;
  const float top = fmaxf(before, found), keep = before == -infinity ? 0.0F : __expf(before - top),
              weight = __expf(found - top);
  if (lane == 0) maximum[at] = top, sum[at] = fmaf(total, keep, weight);
  const bfloat16* const from = output + (local * heads + head) * width;
  float* const to = state_output + at * width;
  for (int c = lane * 2; c < width; c += 2 * warp_size) {
    const Floats<2> more = load<2>(from + c);
    Floats<2> o = load<2>(to + c);
    LEXRING_UNROLL for (int i = 0; i < 2; ++i) o[i] = fmaf(o[i], keep, more[i] * weight);
    store<2>(to + c, o);
  }
}

__global__ void __launch_bounds__(threads)
    finish_rows(std::int64_t rows, int width, const float* state_output, const float* maximum, const float* sum,
                bfloat16* output, float* lse) {
  const std::int64_t row = this_task() / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (row >= rows) return;
  const float total = sum[row], inverse = total > 0 ? 1.0F / total : 0.0F;
  if (lane == 0) lse[row] = total > 0 ? maximum[row] + logf(total) : -infinity;
  for (int c = lane * 2; c < width; c += 2 * warp_size) {
    const Floats<2> o = load<2>(state_output + row * width + c);
    store<2>(output + row * width + c, Floats<2>{{o[0] * inverse, o[1] * inverse}});
  }
}

/// `put`: from the rectangle to the rows; else the other way.
__global__ void __launch_bounds__(threads)
    move_lse(RectangleRows rows, int heads, bool put, float* of_rectangle, float* of_rows) {
  const std::int64_t local = this_task() / heads;
  const int head = static_cast<int>(this_task() % heads);
  if (local >= rows.batch * rows.count) return;
  float &inner = of_rectangle[lse_of(rows, local, head, heads)], &outer = of_rows[row_of(rows, local) * heads + head];
  if (put) outer = inner;
  else inner = outer;
}

/// A thread has 8 channels of a row in all heads, whose factors it computes once.
__global__ void __launch_bounds__(threads) add_rows(RectangleRows rows, const bfloat16* gradient, int heads, int width,
                                                    const float* distance, const LogDecay* decay, float* sum) {
  const int per_row = width / channels;
  const std::int64_t local = this_task() / per_row;
  const int channel = static_cast<int>(this_task() % per_row) * channels;
  if (local >= rows.batch * rows.count) return;
  const std::int64_t row = row_of(rows, local);
  float factor[channels / 2];
  LEXRING_UNROLL for (int i = 0; i < channels / 2; ++i) factor[i] =
      distance == nullptr ? 1.0F : decay_over(decay[channel / 2 + i], distance[row]);
  for (int head = 0; head < heads; ++head) {
    const Floats<channels> more = load<channels>(gradient + (local * heads + head) * width + channel);
    float* const to = sum + (row * heads + head) * width + channel;
    Floats<channels> x = load<channels>(to);
    LEXRING_UNROLL for (int i = 0; i < channels; ++i) x[i] = fmaf(more[i], factor[i / 2], x[i]);
    store<channels>(to, x);
  }
}

int width_of(const Tensor& rows, std::int64_t heads) { return static_cast<int>(rows.row_elements() / heads); }

}  // namespace

void merge_rectangle(const Gpu& gpu, const RectangleRows& rows, const Tensor& output, const Tensor& lse,
                     const AttentionState& state) {
  const std::int64_t heads = state.sum.row_elements();
  launch(gpu.stream, blocks(rows.rows() * heads * warp_size), threads, 0, merge_rows, rows, output.data<bfloat16>(),
         lse.data<float>(), static_cast<int>(heads), width_of(state.output, heads), state.output.data<float>(),
         state.maximum.data<float>(), state.sum.data<float>());
}

void finish_state(const Gpu& gpu, const AttentionState& state, const Tensor& output, const Tensor& lse) {
  const std::int64_t rows = state.sum.elements();
  if (rows == 0) return;
  launch(gpu.stream, blocks(rows * warp_size), threads, 0, finish_rows, rows,
         static_cast<int>(state.output.elements() / rows), state.output.data<float>(), state.maximum.data<float>(),
         state.sum.data<float>(), output.data<bfloat16>(), lse.data<float>());
}

void take_lse(const Gpu& gpu, const RectangleRows& rows, const Tensor& lse, const Tensor& of_rectangle) {
  const std::int64_t heads = lse.row_elements();
  launch(gpu.stream, blocks(rows.rows() * heads), threads, 0, move_lse, rows, static_cast<int>(heads), false,
         of_rectangle.data<float>(), lse.data<float>());
}

void put_lse(const Gpu& gpu, const RectangleRows& rows, const Tensor& of_rectangle, const Tensor& lse) {
  const std::int64_t heads = lse.row_elements();
  launch(gpu.stream, blocks(rows.rows() * heads), threads, 0, move_lse, rows, static_cast<int>(heads), true,
         of_rectangle.data<float>(), lse.data<float>());
}

void add_rectangle(const Gpu& gpu, const RectangleRows& rows, const Tensor& gradient, std::int64_t heads,
                   const Tensor& distance, const Tensor& decay, const Tensor& sum) {
  const int width = width_of(sum, heads);
  launch(gpu.stream, blocks(rows.rows() * (width / channels)), threads, 0, add_rows, rows, gradient.data<bfloat16>(),
         static_cast<int>(heads), width, distance.defined() ? distance.data<float>() : nullptr,
         distance.defined() ? reinterpret_cast<const LogDecay*>(decay.data<float>()) : nullptr, sum.data<float>());
}

}  // namespace lexring::cuda
