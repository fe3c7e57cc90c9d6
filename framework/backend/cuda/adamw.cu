#include <cmath>

#include "framework/backend/cuda/array_list.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;
constexpr int of_block = 16 * threads;  ///< elements

/// In f32; the corrections for the moments' start at zero come from f64 on the host.
struct Step {
  float b1, b2, c1, c2, eps, rate, unbias, clip;
};

template <class T>
struct Parameter : ArrayItem {
  float *value, *first_moment, *second_moment;
  const float* gradient;
  T* copy;       ///< may be null
  float keep;    ///< what decay leaves of the value
  bool vectors;  ///< all are aligned
};

/// n elements of one thread.
template <int n, class T>
__device__ void update(const Step& step, const Parameter<T>& p, std::int64_t at) {
  const Floats<n> g = load<n>(p.gradient + at);
  Floats<n> w = load<n>(static_cast<const float*>(p.value + at)),
            m = load<n>(static_cast<const float*>(p.first_moment + at)),
            v = load<n>(static_cast<const float*>(p.second_moment + at));
  LEXRING_UNROLL for (int j = 0; j < n; ++j) {
    const float clipped = g[j] * step.clip;
    m[j] = step.b1 * m[j] + step.c1 * clipped;
    v[j] = step.b2 * v[j] + step.c2 * clipped * clipped;
    w[j] = p.keep * w[j] - step.rate * m[j] / (sqrtf(v[j]) * step.unbias + step.eps);
  }
  store<n>(p.value + at, w);
  store<n>(p.first_moment + at, m);
  store<n>(p.second_moment + at, v);
  if (p.copy) store<n>(p.copy + at, w);
}

struct Found {
  int item;
};

/// Bytes: 16 read and 12 written per element, and the copy's.
template <class T>
__global__ void __launch_bounds__(threads) adamw_parameters(Step step, const Parameter<T>* parameters, int count) {
  const Parameter<T> p = item_of_block(parameters, count, shared_memory<Found>().item);
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) - p.first_block) * of_block;
  const auto rest = static_cast<int>(p.count - first < of_block ? p.count - first : of_block);
  const int me = static_cast<int>(threadIdx.x), whole = p.vectors ? rest / 4 * 4 : 0;
  for (int i = 4 * me; i < whole; i += 4 * threads) update<4>(step, p, first + i);
  for (int i = whole + me; i < rest; i += threads) update<1>(step, p, first + i);
}

template <class T>
void start(const Gpu& gpu, const AdamW& hyper, std::span<const AdamWParameter> parameters) {
  const auto count = static_cast<double>(hyper.step);
  const Step step{.b1 = static_cast<float>(hyper.beta1),
                  .b2 = static_cast<float>(hyper.beta2),
                  .c1 = static_cast<float>(1 - hyper.beta1),
                  .c2 = static_cast<float>(1 - hyper.beta2),
                  .eps = static_cast<float>(hyper.eps),
                  .rate = static_cast<float>(hyper.lr / (1 - std::pow(hyper.beta1, count))),
                  .unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(hyper.beta2, count))),
                  .clip = static_cast<float>(hyper.gradient_scale)};
  ArrayList<Parameter<T>> list(of_block);
  for (const AdamWParameter& parameter : parameters) {
    Parameter<T> p{};
    p.count = parameter.value.elements();
    p.value = parameter.value.data<float>(), p.gradient = parameter.gradient.data<float>();
    p.first_moment = parameter.first_moment.data<float>(), p.second_moment = parameter.second_moment.data<float>();
    p.copy = parameter.compute.defined() ? parameter.compute.data<T>() : nullptr;
    p.keep = static_cast<float>(1 - hyper.lr * parameter.weight_decay);
    p.vectors = aligned(p.value) && aligned(p.gradient) && aligned(p.first_moment) && aligned(p.second_moment) &&
                aligned(p.copy);
    list.add(p);
  }
  if (list.empty()) return;
  const auto uploaded = list.upload(gpu.runtime);
  launch(gpu.stream, list.blocks(), threads, sizeof(Found), adamw_parameters<T>, step,
         reinterpret_cast<const Parameter<T>*>(uploaded.get()), list.size());
}

}  // namespace

void adamw(const Gpu& gpu, const AdamW& hyper, std::span<const AdamWParameter> parameters) {
  Dtype compute = Dtype::f32;
  for (const AdamWParameter& parameter : parameters) {
    if (parameter.compute.defined()) compute = parameter.compute.dtype();
  }
  with_type(compute, [&]<class T>(Type<T>) { start<T>(gpu, hyper, parameters); });
}

}  // namespace lexring::cuda
