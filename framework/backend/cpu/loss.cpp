#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

namespace {

constexpr std::int64_t logits_of_a_thread = 8192;  // logits a thread must have to be worth waking

/// -inf of nothing.
float log_sum_exp(const float* x, std::int64_t count) {
  f32v top = broadcast(-std::numeric_limits<float>::infinity());
  for_lanes(count, [&](std::int64_t i, std::int64_t m) {
    const f32v v = load(x + i, m);
    top = maximum(top, m < lanes ? (lane_index() < static_cast<std::int32_t>(m) ? v : top) : v);
  });
  const float highest = largest(top);
  f32v total = {};
  for_lanes(count, [&](std::int64_t i, std::int64_t m) {
    const f32v e = simd::exp(load(x + i, m) - highest);
    total += m < lanes ? (lane_index() < static_cast<std::int32_t>(m) ? e : f32v{}) : e;
  });
  return highest + std::log(sum(total));
}

/// gradient [count] = scale * (exp(x - lse) - onehot); a target outside [0, count) has no place in it.
template <class T>
void gradient_row(const float* x, std::int64_t count, std::int32_t target, float lse, float scale, T* gradient) {
  for_lanes(count,
            [&](std::int64_t i, std::int64_t m) { store(gradient + i, scale * simd::exp(load(x + i, m) - lse), m); });
  if (target < count) gradient[target] = T(scale * (std::exp(x[target] - lse) - 1.0F));
}

}  // namespace

void soft_cap(const Tensor& logits, double cap) {
  float* const x = logits.data<float>();
  const float most = static_cast<float>(cap), inverse = static_cast<float>(1 / cap);
  parallel_for(0, logits.elements(), logits_of_a_thread, [&](std::int64_t first, std::int64_t last) {
    for_lanes(last - first, [&](std::int64_t i, std::int64_t m) {
      store(x + first + i, most * simd::tanh(inverse * load(x + first + i, m)), m);
    });
  });
}

void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) {
  const float* const x = logits.data<float>();
  const float inverse = static_cast<float>(1 / cap);
  with_type(dlogits.dtype(), [&]<class T>(Type<T>) {
    T* const dx = dlogits.data<T>();
    parallel_for(0, logits.elements(), logits_of_a_thread, [&](std::int64_t first, std::int64_t last) {
      for_lanes(last - first, [&](std::int64_t i, std::int64_t m) {
        const f32v of_cap = inverse * load(x + first + i, m);
        store(dx + first + i, load(dx + first + i, m) * (1.0F - of_cap * of_cap), m);
      });
    });
  });
}

void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                   const Tensor& dlogits) {
  const std::int64_t vocab = logits.row_elements();
  const std::int32_t* target = targets.data<std::int32_t>();
  const auto row = [&]<class T>(std::int64_t n, T* gradient) {
    const float* x = logits.data<float>() + n * vocab;
    if (target[n] < 0) {
      nll.data<float>()[n] = 0;
      if (gradient) std::fill(gradient, gradient + vocab, T(0.0F));
      return;
    }
    const float lse = log_sum_exp(x, vocab);
    nll.data<float>()[n] = lse - x[target[n]];
    if (gradient) gradient_row(x, vocab, target[n], lse, static_cast<float>(scale), gradient);
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

void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) {
  const std::int64_t width = logits.row_elements();
  const std::int32_t* target = targets.data<std::int32_t>();
  parallel_for(0, logits.rows(), 8, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) {
      const float* x = logits.data<float>() + n * width;
      statistics.data<float>()[2 * n] = target[n] < 0 ? 0.0F : log_sum_exp(x, width);
      statistics.data<float>()[2 * n + 1] = target[n] >= 0 && target[n] < width ? x[target[n]] : 0.0F;
    }
  });
}

void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse, const Tensor& nll) {
  const std::int64_t slices = statistics.rows(), rows = lse.elements();
  parallel_for(0, rows, 1024, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t n = first; n < last; ++n) {
      const auto part = [&](std::int64_t slice) { return statistics.data<float>() + 2 * (slice * rows + n); };
      float top = part(0)[0], total = 0, target_logit = 0;
      for (std::int64_t s = 1; s < slices; ++s) top = std::max(top, part(s)[0]);
      for (std::int64_t s = 0; s < slices; ++s) {
        total += std::exp(part(s)[0] - top);
        target_logit += part(s)[1];
      }
      const bool counted = targets.data<std::int32_t>()[n] >= 0;
      lse.data<float>()[n] = counted ? top + std::log(total) : 0.0F;
      nll.data<float>()[n] = counted ? lse.data<float>()[n] - target_logit : 0.0F;
    }
  });
}

void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                     const Tensor& dlogits) {
  const std::int64_t width = logits.row_elements();
  const std::int32_t* target = targets.data<std::int32_t>();
  with_type(dlogits.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, logits.rows(), 8, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t n = first; n < last; ++n) {
        T* gradient = dlogits.data<T>() + n * width;
        if (target[n] < 0) {
          std::fill(gradient, gradient + width, T(0.0F));
        } else {
          gradient_row(logits.data<float>() + n * width, width, target[n], lse.data<float>()[n],
                       static_cast<float>(scale), gradient);
        }
      }
    });
  });
}

}  // namespace lexring::cpu
