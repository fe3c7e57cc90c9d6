#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {
namespace {

template <class T>
double log_sum_exp(const T* x, std::int64_t count) {
  if (count == 0) return -std::numeric_limits<double>::infinity();
  const double largest = *std::max_element(x, x + count);
  double sum = 0;
  for (std::int64_t v = 0; v < count; ++v) sum += std::exp(x[v] - largest);
  return largest + std::log(sum);
}

}  // namespace

void ReferenceBackend::soft_cap(const Tensor& logits, double cap) {
  dispatch(logits.dtype(), [&](auto zero) {
    auto* x = logits.data<decltype(zero)>();
    for (std::int64_t i = 0; i < logits.elements(); ++i)
      x[i] = static_cast<decltype(zero)>(cap * std::tanh(x[i] / cap));
  });
}

void ReferenceBackend::soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) {
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < logits.elements(); ++i) {
      const double of_cap = logits.data<T>()[i] / cap;
      dlogits.data<T>()[i] = static_cast<T>(dlogits.data<T>()[i] * (1 - of_cap * of_cap));
    }
  });
}

void ReferenceBackend::cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                                     const Tensor& dlogits) {
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t vocabulary = logits.row_elements();
    for (std::int64_t n = 0; n < logits.rows(); ++n) {
      const T* x = logits.data<T>() + n * vocabulary;
      const std::int32_t target = targets.data<std::int32_t>()[n];
      const double lse = log_sum_exp(x, vocabulary);
      nll.data<T>()[n] = target < 0 ? T{0} : static_cast<T>(lse - x[target]);
      if (!dlogits.defined()) continue;
      T* dx = dlogits.data<T>() + n * vocabulary;
      for (std::int64_t v = 0; v < vocabulary; ++v)
        dx[v] = target < 0 ? T{0} : static_cast<T>(scale * (std::exp(x[v] - lse) - (v == target ? 1.0 : 0.0)));
    }
  });
}

void ReferenceBackend::logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) {
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t width = logits.row_elements();
    for (std::int64_t n = 0; n < logits.rows(); ++n) {
      const T* x = logits.data<T>() + n * width;
      const std::int32_t target = targets.data<std::int32_t>()[n];
      statistics.data<T>()[2 * n] = target < 0 ? T{0} : static_cast<T>(log_sum_exp(x, width));
      statistics.data<T>()[2 * n + 1] = target >= 0 && target < width ? x[target] : T{0};
    }
  });
}

void ReferenceBackend::merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                                               const Tensor& nll) {
  dispatch(statistics.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t slices = statistics.rows(), rows = lse.elements();
    for (std::int64_t n = 0; n < rows; ++n) {
      const bool counted = targets.data<std::int32_t>()[n] >= 0;
      std::vector<T> parts;
      double target_logit = 0;
      for (std::int64_t s = 0; s < slices; ++s) {
        const T* of = statistics.data<T>() + 2 * (s * rows + n);
        parts.push_back(of[0]);
        target_logit += of[1];
      }
      const double whole = log_sum_exp(parts.data(), slices);
      lse.data<T>()[n] = counted ? static_cast<T>(whole) : T{0};
      nll.data<T>()[n] = counted ? static_cast<T>(whole - target_logit) : T{0};
    }
  });
}

void ReferenceBackend::logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                                       const Tensor& dlogits) {
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t width = logits.row_elements();
    for (std::int64_t n = 0; n < logits.rows(); ++n) {
      const std::int32_t target = targets.data<std::int32_t>()[n];
      for (std::int64_t v = 0; v < width; ++v) {
        const double p = std::exp(static_cast<double>(logits.data<T>()[n * width + v]) - lse.data<T>()[n]);
        dlogits.data<T>()[n * width + v] = target < 0 ? T{0} : static_cast<T>(scale * (p - (v == target ? 1.0 : 0.0)));
      }
    }
  });
}

}  // namespace lexring::reference
