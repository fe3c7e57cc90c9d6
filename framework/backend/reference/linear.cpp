#include <vector>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {

void ReferenceBackend::linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) {
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *px = x.data<T>(), *pw = w.data<T>(), *pb = b.defined() ? b.data<T>() : nullptr;
    T* py = y.data<T>();
    const std::int64_t rows = x.rows(), outputs = w.dim(0), inputs = w.dim(1);
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t o = 0; o < outputs; ++o) {
        double sum = pb ? pb[o] : 0.0;
        if (write == Write::accumulate) sum += py[n * y.stride() + o];
        for (std::int64_t i = 0; i < inputs; ++i)
          sum += static_cast<double>(px[n * x.stride() + i]) * pw[o * inputs + i];
        py[n * y.stride() + o] = static_cast<T>(sum);
      }
  });
}

void ReferenceBackend::linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) {
  dispatch(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T *pdy = dy.data<T>(), *pw = w.data<T>();
    T* pdx = dx.data<T>();
    const std::int64_t rows = dy.rows(), outputs = w.dim(0), inputs = w.dim(1);
    std::vector<double> sum(static_cast<std::size_t>(inputs));
    for (std::int64_t n = 0; n < rows; ++n) {
      sum.assign(sum.size(), 0.0);
      for (std::int64_t o = 0; o < outputs; ++o)
        for (std::int64_t i = 0; i < inputs; ++i)
          sum[i] += static_cast<double>(pdy[n * dy.stride() + o]) * pw[o * inputs + i];
      for (std::int64_t i = 0; i < inputs; ++i)
        pdx[n * dx.stride() + i] =
            static_cast<T>(sum[i] + (write == Write::accumulate ? pdx[n * dx.stride() + i] : T{0}));
    }
  });
}

void ReferenceBackend::linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) {
  dispatch(dy.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const T* pdy = dy.data<T>();
    const std::int64_t rows = dy.rows(), outputs = dy.width;
    for (std::int64_t o = 0; o < outputs && dw.defined(); ++o) {
      const T* px = x.data<T>();
      const std::int64_t inputs = dw.dim(1);
      std::vector<double> sum(static_cast<std::size_t>(inputs));
      for (std::int64_t n = 0; n < rows; ++n)
        for (std::int64_t i = 0; i < inputs; ++i)
          sum[i] += static_cast<double>(pdy[n * dy.stride() + o]) * px[n * x.stride() + i];
      for (std::int64_t i = 0; i < inputs; ++i) dw.data<T>()[o * inputs + i] += static_cast<T>(sum[i]);
    }
    for (std::int64_t o = 0; o < outputs && db.defined(); ++o) {
      double sum = 0;
      for (std::int64_t n = 0; n < rows; ++n) sum += pdy[n * dy.stride() + o];
      db.data<T>()[o] += static_cast<T>(sum);
    }
  });
}

}  // namespace lexring::reference
