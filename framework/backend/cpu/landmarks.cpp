#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

constexpr float unseen = -std::numeric_limits<float>::infinity();

void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) {
  const std::int64_t rows = score.elements(), width = rows == 0 ? 0 : whole.output.elements() / rows;
  parallel_for(0, rows, 64, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) {
      const float found = score.data<float>()[n], inside = block.sum.data<float>()[n];
      if (found == unseen) continue;
      float &maximum = whole.maximum.data<float>()[n], &sum = whole.sum.data<float>()[n];
      const float top = std::max(maximum, found), keep = std::exp(maximum - top), weight = std::exp(found - top),
                  each = inside > 0 ? weight / inside : 0.0F;
      maximum = top, sum = sum * keep + weight;
      const float* const from = block.output.data<float>() + n * width;
      float* const to = whole.output.data<float>() + n * width;
      for_lanes(width, [&](std::int64_t i, std::int64_t m) {
        // What no key of the block reached is no number that counts.
        const f32v more = inside > 0 ? each * load(from + i, m) : f32v{};
        store(to + i, keep * load(to + i, m) + more, m);
      });
    }
  });
}

void landmark_statistics(const LandmarkStatistics& s) {
  parallel_for(0, s.score.elements(), 4096, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) {
      const float found = s.score.data<float>()[n];
      float& block_lse = s.block_lse.data<float>()[n];
      const bool seen = found != unseen;
      s.landmark_delta.data<float>()[n] = seen ? s.delta.data<float>()[n] - s.block_delta.data<float>()[n] : 0.0F;
      block_lse = seen && block_lse != unseen ? s.lse.data<float>()[n] + (block_lse - found) : 0.0F;
    }
  });
}

}  // namespace lexring::cpu
