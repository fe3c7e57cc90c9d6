#include <cmath>

#include "framework/backend/reference/dispatch.h"
#include "framework/backend/reference/reference_backend.h"

namespace lexring::reference {

void ReferenceBackend::adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) {
  const double correction1 = 1 - std::pow(hyper.beta1, static_cast<double>(hyper.step));
  const double correction2 = 1 - std::pow(hyper.beta2, static_cast<double>(hyper.step));
  for (const AdamWParameter& parameter : parameters) {
    dispatch(parameter.value.dtype(), [&](auto zero) {
      using T = decltype(zero);
      T *p = parameter.value.data<T>(), *m = parameter.first_moment.data<T>(), *v = parameter.second_moment.data<T>();
      for (std::int64_t i = 0; i < parameter.value.elements(); ++i) {
        const double g = parameter.gradient.data<T>()[i] * hyper.gradient_scale;
        m[i] = static_cast<T>(hyper.beta1 * m[i] + (1 - hyper.beta1) * g);
        v[i] = static_cast<T>(hyper.beta2 * v[i] + (1 - hyper.beta2) * g * g);
        const double update = (m[i] / correction1) / (std::sqrt(v[i] / correction2) + hyper.eps);
        p[i] = static_cast<T>(p[i] * (1 - hyper.lr * parameter.weight_decay) - hyper.lr * update);
      }
    });
    if (parameter.compute.defined()) cast(parameter.value, parameter.compute);
  }
}

}  // namespace lexring::reference
