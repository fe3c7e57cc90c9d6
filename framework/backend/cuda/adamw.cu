#include <cmath>

#include "framework/backend/cuda/dispatch.h"
#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;

/// In f32; the corrections for the moments' start at zero come from f64 on the host.
struct Step {
  float b1, b2, c1, c2, eps, rate, unbias, keep, clip;
};

/// One vector of a thread. `copy` may be null.
template <int n, class T>
__device__ void update(const Step& step, float* value, const float* gradient, float* first_moment, float* second_moment, T* copy) {
  const Floats<n> g = load<n>(gradient);
  Floats<n> w = load<n>(static_cast<const float*>(value)), m = load<n>(static_cast<const float*>(first_moment)),
            v = load<n>(static_cast<const float*>(second_moment));
  LEXRING_UNROLL for (int j = 0; j < n; ++j) {
    const float clipped = g[j] * step.clip;
    m[j] = step.b1 * m[j] + step.c1 * clipped;
    v[j] = step.b2 * v[j] + step.c2 * clipped * clipped;
    w[j] = step.keep * w[j] - step.rate * m[j] / (sqrtf(v[j]) * step.unbias + step.eps);
  }
  store<n>(value, w);
  store<n>(first_moment, m);
  store<n>(second_moment, v);
  if (copy) store<n>(copy, w);
}

/// Bytes: 16 read and 12 written, and the copy's. Four loads of 16 bytes of each thread are in flight.
template <int n, class T>
__global__ void __launch_bounds__(threads)
    adamw_elements(Step step, float* value, const float* gradient, float* first_moment, float* second_moment, T* copy, std::int64_t count) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * n;
  const auto at = [&](auto* of, std::int64_t i) { return of ? of + i : of; };
  if (first + n <= count)
    return update<n>(step, value + first, gradient + first, first_moment + first, second_moment + first, at(copy, first));
  for (std::int64_t i = first; i < count; ++i) update<1>(step, value + i, gradient + i, first_moment + i, second_moment + i, at(copy, i));
}

template <class T>
void start(const Gpu& gpu, const Step& step, const Tensor& value, const Tensor& gradient, const Tensor& first_moment, const Tensor& second_moment,
           T* copy) {
  float *w = value.data<float>(), *m = first_moment.data<float>(), *v = second_moment.data<float>();
  const float* g = gradient.data<float>();
  const std::int64_t count = value.elements();
  const auto with = [&](int n, auto* kernel) {
    launch(gpu.stream, dim3(static_cast<unsigned>(ceil_div<std::int64_t>(count, threads * n))), threads, 0, kernel, step, w, g, m, v, copy, count);
  };
  if (aligned(w) && aligned(g) && aligned(m) && aligned(v) && aligned(copy)) with(4, adamw_elements<4, T>);
  else with(1, adamw_elements<1, T>);
}

}  // namespace

void adamw(const Gpu& gpu, const AdamW& hyper, const Tensor& value, const Tensor& gradient, const Tensor& first_moment, const Tensor& second_moment,
           const Tensor& compute) {
  const auto count = static_cast<double>(hyper.step);
  const Step step{.b1 = static_cast<float>(hyper.beta1),
                  .b2 = static_cast<float>(hyper.beta2),
                  .c1 = static_cast<float>(1 - hyper.beta1),
                  .c2 = static_cast<float>(1 - hyper.beta2),
                  .eps = static_cast<float>(hyper.eps),
                  .rate = static_cast<float>(hyper.lr / (1 - std::pow(hyper.beta1, count))),
                  .unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(hyper.beta2, count))),
                  .keep = static_cast<float>(1 - hyper.lr * hyper.weight_decay),
                  .clip = static_cast<float>(hyper.gradient_scale)};
  if (!compute.defined()) return start<float>(gpu, step, value, gradient, first_moment, second_moment, nullptr);
  with_type(compute.dtype(),
            [&]<class T>(Type<T>) { start(gpu, step, value, gradient, first_moment, second_moment, compute.data<T>()); });
}

}  // namespace lexring::cuda
