#include <algorithm>
#include <cmath>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {
namespace {

template <class T>
double log_sum_exp(const T* x, std::int64_t count) {
  const double largest = *std::max_element(x, x + count);
  double sum = 0;
  for (std::int64_t v = 0; v < count; ++v) sum += std::exp(x[v] - largest);
  return largest + std::log(sum);
}

}  // namespace

void ReferenceBackend::cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll, const Tensor& dlogits) {
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

}  // namespace lexring::reference
