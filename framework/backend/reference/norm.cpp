#include <cmath>
#include <vector>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {
namespace {

template <class T>
void forward(const NormForward& call) {
  const std::int64_t rows = call.rows.count(call.x), width = call.weight.elements();
  const T *weight = call.weight.data<T>(), *bias = call.bias.defined() ? call.bias.data<T>() : nullptr;
  for (std::int64_t n = 0; n < rows; ++n) {
    const std::int64_t begin = call.rows.begin(call.x, width, n);
    const T* s = call.x.data<T>() + begin;
    if (call.delta.defined()) {
      const T* delta = call.delta.data<T>() + n * width;
      T* sum = call.sum.data<T>() + n * width;
      for (std::int64_t d = 0; d < width; ++d) sum[d] = s[d] + delta[d];
      s = sum;
    }
    double mean = 0;
    if (call.kind == NormKind::layernorm) {
      for (std::int64_t d = 0; d < width; ++d) mean += s[d];
      mean /= static_cast<double>(width);
      call.mean.data<T>()[n] = static_cast<T>(mean);
    }
    double variance = 0;
    for (std::int64_t d = 0; d < width; ++d) variance += (s[d] - mean) * (s[d] - mean);
    const double rstd = 1.0 / std::sqrt(variance / static_cast<double>(width) + call.eps);
    call.rstd.data<T>()[n] = static_cast<T>(rstd);
    T* y = call.y.data<T>() + begin;
    for (std::int64_t d = 0; d < width; ++d)
      y[d] = static_cast<T>((s[d] - mean) * rstd * weight[d] + (bias ? bias[d] : T{0}));
  }
}

/// With h = (s - mean) rstd and g = dy weight: ds = rstd (g - [layernorm: average of g] - h * average of g h).
template <class T>
void backward(const NormBackward& call) {
  const std::int64_t rows = call.rows.count(call.s), width = call.weight.elements();
  const T* weight = call.weight.data<T>();
  std::vector<double> dweight(static_cast<std::size_t>(width)), dbias(static_cast<std::size_t>(width));
  for (std::int64_t n = 0; n < rows; ++n) {
    const std::int64_t begin = call.rows.begin(call.s, width, n);
    const T *s = call.s.data<T>() + begin, *dy = call.dy.data<T>() + begin;
    const double mean = call.kind == NormKind::layernorm ? call.mean.data<T>()[n] : T{0}, rstd = call.rstd.data<T>()[n];
    double g_average = 0, gh_average = 0;
    for (std::int64_t d = 0; d < width; ++d) {
      const double h = (s[d] - mean) * rstd, g = static_cast<double>(dy[d]) * weight[d];
      g_average += g / static_cast<double>(width);
      gh_average += g * h / static_cast<double>(width);
      dweight[d] += dy[d] * h;
      dbias[d] += dy[d];
    }
    if (call.kind == NormKind::rmsnorm) g_average = 0;
    for (std::int64_t d = 0; d < width; ++d) {
      const double h = (s[d] - mean) * rstd, g = static_cast<double>(dy[d]) * weight[d];
      const double residual = call.dsum.defined() ? call.dsum.data<T>()[n * width + d] : T{0};
      const T ds = static_cast<T>(rstd * (g - g_average - h * gh_average) + residual);
      call.ds.data<T>()[begin + d] = ds;
      if (call.ddelta.defined()) call.ddelta.data<T>()[n * width + d] = ds;
    }
  }
  for (std::int64_t d = 0; d < width; ++d) {
    if (call.dweight.defined()) call.dweight.data<T>()[d] += static_cast<T>(dweight[d]);
    if (call.dbias.defined()) call.dbias.data<T>()[d] += static_cast<T>(dbias[d]);
  }
}

}  // namespace

void ReferenceBackend::norm(const NormForward& call) {
  dispatch(call.x.dtype(), [&](auto zero) { forward<decltype(zero)>(call); });
}

void ReferenceBackend::norm_backward(const NormBackward& call) {
  dispatch(call.s.dtype(), [&](auto zero) { backward<decltype(zero)>(call); });
}

}  // namespace lexring::reference
