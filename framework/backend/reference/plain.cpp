#include <cmath>
#include <cstring>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring {

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<reference::ReferenceBackend>(); }

namespace reference {

void ReferenceBackend::fill(const Tensor& x, double value) {
  dispatch_floating(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T* p = x.data<T>();
    for (std::int64_t i = 0; i < x.elements(); ++i) p[i] = rounded<T>(value);
  });
}

void ReferenceBackend::cast(const Tensor& x, const Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero_x) {
    dispatch_floating(y.dtype(), [&](auto zero_y) {
      const auto* from = x.data<decltype(zero_x)>();
      auto* to = y.data<decltype(zero_y)>();
      for (std::int64_t i = 0; i < x.elements(); ++i) to[i] = rounded<decltype(zero_y)>(from[i]);
    });
  });
}

void ReferenceBackend::add(const Tensor& x, const Tensor& y) {
  dispatch_floating(x.dtype(), [&](auto zero_x) {
    dispatch_floating(y.dtype(), [&](auto zero_y) {
      const auto* from = x.data<decltype(zero_x)>();
      auto* to = y.data<decltype(zero_y)>();
      for (std::int64_t i = 0; i < x.elements(); ++i)
        to[i] = rounded<decltype(zero_y)>(static_cast<double>(to[i]) + from[i]);
    });
  });
}

double ReferenceBackend::sum_of_squares(std::span<const Tensor> x) {
  double sum = 0;
  for (const Tensor& part : x) {
    dispatch_floating(part.dtype(), [&](auto zero) {
      const auto* p = part.data<decltype(zero)>();
      for (std::int64_t i = 0; i < part.elements(); ++i) sum += static_cast<double>(p[i]) * static_cast<double>(p[i]);
    });
  }
  return sum;
}

void ReferenceBackend::copy(const Columns& x, const Columns& y) {
  require_same_columns(x, y);
  const auto element = static_cast<std::int64_t>(size_of(x.dtype()));
  for (std::int64_t n = 0; n < x.rows(); ++n) {
    const std::byte* from = x.matrix.raw() + (n * x.stride() + x.first) * element;
    std::memcpy(y.matrix.raw() + (n * y.stride() + y.first) * element, from,
                static_cast<std::size_t>(x.width * element));
  }
}

void ReferenceBackend::scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) {
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t head_width = by_head.defined() ? x.width / by_head.elements() : x.width;
    for (std::int64_t n = 0; n < x.rows(); ++n)
      for (std::int64_t c = 0; c < x.width; ++c) {
        const double head = by_head.defined() ? by_head.data<T>()[c / head_width] : 1.0;
        y.data<T>()[n * y.stride() + c] =
            static_cast<T>(x.data<T>()[n * x.stride() + c] * (by_row.data<T>()[n] * head));
      }
  });
}

void ReferenceBackend::forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) {
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t heads = logits.dim(1);
    for (std::int64_t h = 0; h < heads; ++h) {
      double total = before.defined() ? static_cast<double>(before.data<T>()[h]) + before.data<T>()[heads + h] : 0.0;
      for (std::int64_t n = 0; n < logits.rows(); ++n) {
        const double x = logits.data<T>()[n * heads + h];
        total += std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x)));
        T* const to = sums.data<T>() + n * 2 * heads + h;
        to[0] = static_cast<T>(total);
        to[heads] = static_cast<T>(total - to[0]);
      }
    }
  });
}

void ReferenceBackend::forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) {
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t heads = logits.dim(1);
    for (std::int64_t h = 0; h < heads; ++h) {
      double total = 0;
      for (std::int64_t n = logits.rows() - 1; n >= 0; --n) {
        total += dsums.data<T>()[n * heads + h];
        dlogits.data<T>()[n * heads + h] = static_cast<T>(total / (1 + std::exp(logits.data<T>()[n * heads + h])));
      }
    }
  });
}

}  // namespace reference
}  // namespace lexring
