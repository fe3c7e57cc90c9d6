#include <cmath>
#include <numbers>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {
namespace {

double normal_cdf(double u) { return 0.5 * std::erfc(-u / std::numbers::sqrt2); }
double normal_density(double u) { return std::exp(-0.5 * u * u) / std::sqrt(2 * std::numbers::pi); }
double sigmoid(double g) { return 1.0 / (1.0 + std::exp(-g)); }

/// What u is multiplied with, and its derivative.
struct Gate {
  double value, slope;
};
Gate gate_of(Gelu kind, double u) {
  if (kind == Gelu::exact) return {normal_cdf(u), normal_density(u)};
  const double root = std::sqrt(2 / std::numbers::pi), t = std::tanh(root * (u + 0.044715 * u * u * u));
  return {0.5 * (1 + t), 0.5 * (1 - t * t) * root * (1 + 3 * 0.044715 * u * u)};
}

}  // namespace

void ReferenceBackend::gelu(Gelu kind, const Tensor& u, const Tensor& a) {
  dispatch(u.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < u.elements(); ++i) {
      const double x = u.data<T>()[i];
      a.data<T>()[i] = static_cast<T>(x * gate_of(kind, x).value);
    }
  });
}

void ReferenceBackend::gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) {
  dispatch(u.dtype(), [&](auto zero) {
    using T = decltype(zero);
    for (std::int64_t i = 0; i < u.elements(); ++i) {
      const double x = u.data<T>()[i];
      const Gate gate = gate_of(kind, x);
      du.data<T>()[i] = static_cast<T>(da.data<T>()[i] * (gate.value + x * gate.slope));
    }
  });
}

void ReferenceBackend::swiglu(const Tensor& gate_up, const Tensor& a) {
  dispatch(a.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t width = a.row_elements();
    for (std::int64_t n = 0; n < a.rows(); ++n)
      for (std::int64_t f = 0; f < width; ++f) {
        const T* row = gate_up.data<T>() + n * 2 * width;
        const double gate = row[f], up = row[width + f];
        a.data<T>()[n * width + f] = static_cast<T>(gate * sigmoid(gate) * up);
      }
  });
}

void ReferenceBackend::swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) {
  dispatch(da.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t width = da.row_elements();
    for (std::int64_t n = 0; n < da.rows(); ++n)
      for (std::int64_t f = 0; f < width; ++f) {
        const T* row = gate_up.data<T>() + n * 2 * width;
        T* drow = dgate_up.data<T>() + n * 2 * width;
        const double gate = row[f], up = row[width + f], g = da.data<T>()[n * width + f], s = sigmoid(gate);
        drow[f] = static_cast<T>(g * up * s * (1 + gate * (1 - s)));
        drow[width + f] = static_cast<T>(g * gate * s);
      }
  });
}

}  // namespace lexring::reference
