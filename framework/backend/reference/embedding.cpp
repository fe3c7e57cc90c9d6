#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {

void ReferenceBackend::embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) {
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int32_t* row = index.data<std::int32_t>();
    const T* from = table.data<T>();
    T* to = x.data<T>();
    const std::int64_t width = table.row_elements();
    for (std::int64_t n = 0; n < index.elements(); ++n)
      for (std::int64_t d = 0; d < width; ++d) {
        const T looked_up = row[n] < 0 ? T{0} : from[row[n] * width + d];
        to[n * width + d] = looked_up + (write == Write::accumulate ? to[n * width + d] : T{0});
      }
  });
}

void ReferenceBackend::embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) {
  dispatch(dx.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const std::int32_t* row = index.data<std::int32_t>();
    const T* from = dx.data<T>();
    T* to = dtable.data<T>();
    const std::int64_t width = dtable.row_elements();
    for (std::int64_t n = 0; n < index.elements(); ++n)
      for (std::int64_t d = 0; row[n] >= 0 && d < width; ++d) to[row[n] * width + d] += from[n * width + d];
  });
}

}  // namespace lexring::reference
