#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {

constexpr double unseen = -std::numeric_limits<double>::infinity();

void ReferenceBackend::merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) {
  dispatch(score.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t rows = score.elements(), width = rows == 0 ? 0 : whole.output.elements() / rows;
    for (std::int64_t n = 0; n < rows; ++n) {
      const double found = score.data<T>()[n], before = whole.maximum.data<T>()[n], inside = block.sum.data<T>()[n];
      if (found == unseen) continue;
      const double top = std::max(before, found), keep = std::exp(before - top), weight = std::exp(found - top);
      whole.maximum.data<T>()[n] = static_cast<T>(top);
      whole.sum.data<T>()[n] = static_cast<T>(whole.sum.data<T>()[n] * keep + weight);
      for (std::int64_t e = n * width; e < (n + 1) * width; ++e) {
        const double more = inside > 0 ? weight / inside * block.output.data<T>()[e] : 0;
        whole.output.data<T>()[e] = static_cast<T>(whole.output.data<T>()[e] * keep + more);
      }
    }
  });
}

void ReferenceBackend::landmark_statistics(const LandmarkStatistics& s) {
  dispatch(s.score.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t n = 0; n < s.score.elements(); ++n) {
      const double found = s.score.data<T>()[n], inside = s.block_lse.data<T>()[n];
      s.landmark_delta.data<T>()[n] = found == unseen ? 0 : s.delta.data<T>()[n] - s.block_delta.data<T>()[n];
      s.block_lse.data<T>()[n] =
          found == unseen || inside == unseen ? 0 : static_cast<T>(s.lse.data<T>()[n] + inside - found);
    }
  });
}

}  // namespace lexring::reference
