#include <cmath>

#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

namespace {

/// `copy` may be null.
template <class T>
void update(const AdamW& hyper, const AdamWParameter& parameter, T* copy) {
  const auto step = static_cast<double>(hyper.step);
  const auto b1 = static_cast<float>(hyper.beta1), b2 = static_cast<float>(hyper.beta2),
             eps = static_cast<float>(hyper.eps);
  const auto c1 = static_cast<float>(1 - hyper.beta1), c2 = static_cast<float>(1 - hyper.beta2);
  const auto rate = static_cast<float>(hyper.lr / (1 - std::pow(hyper.beta1, step)));
  const auto unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(hyper.beta2, step)));
  const auto keep = static_cast<float>(1 - hyper.lr * parameter.weight_decay),
             clip = static_cast<float>(hyper.gradient_scale);
  float *w = parameter.value.data<float>(), *m = parameter.first_moment.data<float>(),
        *v = parameter.second_moment.data<float>();
  const float* g = parameter.gradient.data<float>();
  parallel_for(0, parameter.value.elements(), 4096, [&](std::int64_t first, std::int64_t last) {
    for_lanes(last - first, [&](std::int64_t at, std::int64_t n) {
      const std::int64_t i = first + at;
      const f32v grad = load(g + i, n) * clip;
      const f32v m1 = b1 * load(m + i, n) + c1 * grad, v1 = b2 * load(v + i, n) + c2 * grad * grad;
      f32v root = {};
      for (int lane = 0; lane < lanes; ++lane) root[lane] = std::sqrt(v1[lane]);
      const f32v updated = keep * load(w + i, n) - rate * m1 / (root * unbias + eps);
      store(m + i, m1, n);
      store(v + i, v1, n);
      store(w + i, updated, n);
      if (copy) store(copy + i, updated, n);
    });
  });
}

}  // namespace

void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) {
  for (const AdamWParameter& parameter : parameters) {
    const Tensor& compute = parameter.compute;
    if (!compute.defined()) update<float>(hyper, parameter, nullptr);
    else with_type(compute.dtype(), [&]<class T>(Type<T>) { update(hyper, parameter, compute.data<T>()); });
  }
}

}  // namespace lexring::cpu
