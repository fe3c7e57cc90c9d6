#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {

void ReferenceBackend::attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) {
  dispatch(output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (delta.elements() == 0) return;
    const std::int64_t width = output.elements() / delta.elements();
    for (std::int64_t row = 0; row < delta.elements(); ++row) {
      double sum = 0;
      for (std::int64_t e = 0; e < width; ++e)
        sum += static_cast<double>(output.data<T>()[row * width + e]) * doutput.data<T>()[row * width + e];
      delta.data<T>()[row] = static_cast<T>(sum);
    }
  });
}

}  // namespace lexring::reference
