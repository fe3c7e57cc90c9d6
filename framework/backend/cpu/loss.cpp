#include "framework/backend/cpu/dispatch.h"
#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll, const Tensor& dlogits) {
  const std::int64_t vocab = logits.row_elements();
  const std::int32_t* target = targets.data<std::int32_t>();
  const auto row = [&]<class T>(std::int64_t n, T* gradient) {
    const float* x = logits.data<float>() + n * vocab;
    if (target[n] < 0) {
      nll.data<float>()[n] = 0;
      if (gradient) std::fill(gradient, gradient + vocab, T(0.0F));
      return;
    }
    f32v top = broadcast(-std::numeric_limits<float>::infinity());
    for_lanes(vocab, [&](std::int64_t i, std::int64_t m) {
      const f32v v = load(x + i, m);
      top = maximum(top, m < lanes ? (lane_index() < static_cast<std::int32_t>(m) ? v : top) : v);
    });
    const float highest = largest(top);
    f32v total = {};
    for_lanes(vocab, [&](std::int64_t i, std::int64_t m) {
      const f32v e = simd::exp(load(x + i, m) - highest);
      total += m < lanes ? (lane_index() < static_cast<std::int32_t>(m) ? e : f32v{}) : e;
    });
    const float lse = highest + std::log(sum(total));
    nll.data<float>()[n] = lse - x[target[n]];
    if (!gradient) return;
    const auto factor = static_cast<float>(scale);
    for_lanes(vocab, [&](std::int64_t i, std::int64_t m) { store(gradient + i, factor * simd::exp(load(x + i, m) - lse), m); });
    gradient[target[n]] = T(factor * (std::exp(x[target[n]] - lse) - 1.0F));
  };
  parallel_for(0, logits.rows(), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) {
      if (!dlogits.defined()) {
        row(n, static_cast<float*>(nullptr));
      } else {
        with_type(dlogits.dtype(), [&]<class T>(Type<T>) { row(n, dlogits.data<T>() + n * vocab); });
      }
    }
  });
}

}  // namespace lexring::cpu
