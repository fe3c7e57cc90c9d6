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

void ReferenceBackend::attention_merge(const AttentionState& from, const AttentionState& into) {
  dispatch(into.output.dtype(), [&](auto zero) {
    using T = decltype(zero);
    if (into.sum.elements() == 0) return;
    const std::int64_t width = into.output.elements() / into.sum.elements();
    for (std::int64_t row = 0; row < into.sum.elements(); ++row) {
      const double ours = into.maximum.data<T>()[row], theirs = from.maximum.data<T>()[row],
                   larger = std::max(ours, theirs);
      if (larger == -std::numeric_limits<double>::infinity()) continue;  // both empty: nothing changes
      const double keep = std::exp(ours - larger), take = std::exp(theirs - larger);
      for (std::int64_t i = row * width; i < (row + 1) * width; ++i)
        into.output.data<T>()[i] = static_cast<T>(keep * into.output.data<T>()[i] + take * from.output.data<T>()[i]);
      into.sum.data<T>()[row] = static_cast<T>(keep * into.sum.data<T>()[row] + take * from.sum.data<T>()[row]);
      into.maximum.data<T>()[row] = static_cast<T>(larger);
    }
  });
}

}  // namespace lexring::reference
