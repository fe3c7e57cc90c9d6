#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;
constexpr float unseen = -__builtin_huge_valf();

/// A warp per row and head. Bytes per element: 4 of the block read, 4 of the whole read and written.
__global__ void __launch_bounds__(threads)
    merge_blocks(std::int64_t rows, int width, const float* block_output, const float* block_sum, const float* score,
                 float* output, float* maximum, float* sum) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (row >= rows) return;  // whole warps
  const float found = score[row], inside = block_sum[row], before = maximum[row], total = sum[row];
  __syncwarp();
  if (found == unseen) return;
  const float top = fmaxf(before, found), keep = before == unseen ? 0.0F : __expf(before - top),
              weight = __expf(found - top), each = inside > 0.0F ? weight / inside : 0.0F;
  if (lane == 0) maximum[row] = top, sum[row] = fmaf(total, keep, weight);
  for (int c = lane; c < width; c += warp_size) {
    const float more = inside > 0.0F ? each * block_output[row * width + c] : 0.0F;
    output[row * width + c] = fmaf(output[row * width + c], keep, more);
  }
}

/// A row and head per thread. Bytes: 24.
__global__ void __launch_bounds__(threads)
    statistics_of_rows(std::int64_t rows, const float* lse, const float* score, const float* delta,
                       const float* block_delta, float* block_lse, float* landmark_delta) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (row >= rows) return;
  const float found = score[row], inside = block_lse[row];
  landmark_delta[row] = found == unseen ? 0.0F : delta[row] - block_delta[row];
  block_lse[row] = found == unseen || inside == unseen ? 0.0F : lse[row] + (inside - found);
}

dim3 blocks(std::int64_t tasks) { return dim3(static_cast<unsigned>(ceil_div<std::int64_t>(tasks, threads))); }

}  // namespace

void merge_landmark(const Gpu& gpu, const AttentionState& block, const Tensor& score, const AttentionState& whole) {
  const std::int64_t rows = score.elements();
  if (rows == 0) return;
  launch(gpu.stream, blocks(rows * warp_size), threads, 0, merge_blocks, rows,
         static_cast<int>(whole.output.elements() / rows), static_cast<const float*>(block.output.data<float>()),
         static_cast<const float*>(block.sum.data<float>()), static_cast<const float*>(score.data<float>()),
         whole.output.data<float>(), whole.maximum.data<float>(), whole.sum.data<float>());
}

void landmark_statistics(const Gpu& gpu, const LandmarkStatistics& s) {
  const std::int64_t rows = s.score.elements();
  if (rows == 0) return;
  launch(gpu.stream, blocks(rows), threads, 0, statistics_of_rows, rows, static_cast<const float*>(s.lse.data<float>()),
         static_cast<const float*>(s.score.data<float>()), static_cast<const float*>(s.delta.data<float>()),
         static_cast<const float*>(s.block_delta.data<float>()), s.block_lse.data<float>(),
         s.landmark_delta.data<float>());
}

}  // namespace lexring::cuda
