#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

namespace {
constexpr std::int64_t grain = 8192;
constexpr float half_log2_e = 0.72134752F;
constexpr float inverse_sqrt_two_pi = 0.39894228F;

f32v sigmoid(f32v x) { return 1.0F / (1.0F + simd::exp(-x)); }

// Of each gelu: what u is multiplied with, and how that changes with u. (1 + tanh z) / 2 = sigmoid(2 z).

struct Exact {
  static f32v gate(f32v u) { return normal_cdf(u); }
  static f32v slope(f32v u, f32v) { return inverse_sqrt_two_pi * exp2_below_127(-half_log2_e * u * u); }
};
struct Tanh {
  static constexpr float twice_root = 1.59576912F, cubic = 0.044715F;  ///< 2 sqrt(2 / pi)
  static f32v gate(f32v u) { return sigmoid(twice_root * u * (1.0F + cubic * u * u)); }
  static f32v slope(f32v u, f32v gate) { return twice_root * gate * (1.0F - gate) * (1.0F + 3.0F * cubic * u * u); }
};

template <class F, class T>
void gelu(const T* from, T* to, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, std::int64_t n) {
    const f32v x = load(from + i, n);
    store(to + i, x * F::gate(x), n);
  });
}
template <class F, class T>
void gelu_backward(const T* from, const T* incoming, T* to, std::int64_t count) {
  for_lanes(count, [&](std::int64_t i, std::int64_t n) {
    const f32v x = load(from + i, n), gate = F::gate(x);
    store(to + i, load(incoming + i, n) * (gate + x * F::slope(x, gate)), n);
  });
}
}  // namespace

void gelu(Gelu kind, const Tensor& u, const Tensor& a) {
  with_type(u.dtype(), [&]<class T>(Type<T>) {
    const auto of_elements = kind == Gelu::exact ? gelu<Exact, T> : gelu<Tanh, T>;
    const T* from = u.data<T>();
    T* to = a.data<T>();
    parallel_for(0, u.elements(), grain,
                 [&](std::int64_t first, std::int64_t last) { of_elements(from + first, to + first, last - first); });
  });
}

void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) {
  with_type(u.dtype(), [&]<class T>(Type<T>) {
    const auto of_elements = kind == Gelu::exact ? gelu_backward<Exact, T> : gelu_backward<Tanh, T>;
    const T *from = u.data<T>(), *incoming = da.data<T>();
    T* to = du.data<T>();
    parallel_for(0, u.elements(), grain, [&](std::int64_t first, std::int64_t last) {
      of_elements(from + first, incoming + first, to + first, last - first);
    });
  });
}

void swiglu(const Tensor& gate_up, const Tensor& a) {
  const std::int64_t width = a.row_elements();
  with_type(a.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, a.rows(), 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t n = first; n < last; ++n) {
        const T* gate = gate_up.data<T>() + n * 2 * width;
        T* to = a.data<T>() + n * width;
        for_lanes(width, [&](std::int64_t i, std::int64_t m) {
          const f32v g = load(gate + i, m);
          store(to + i, g * sigmoid(g) * load(gate + width + i, m), m);
        });
      }
    });
  });
}

void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) {
  const std::int64_t width = da.row_elements();
  with_type(da.dtype(), [&]<class T>(Type<T>) {
    parallel_for(0, da.rows(), 16, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t n = first; n < last; ++n) {
        const T* gate = gate_up.data<T>() + n * 2 * width;
        const T* incoming = da.data<T>() + n * width;
        T* to = dgate_up.data<T>() + n * 2 * width;
        for_lanes(width, [&](std::int64_t i, std::int64_t m) {
          const f32v g = load(gate + i, m), u = load(gate + width + i, m), d = load(incoming + i, m), s = sigmoid(g);
          store(to + i, d * u * s * (1.0F + g * (1.0F - s)), m);
          store(to + width + i, d * g * s, m);
        });
      }
    });
  });
}

}  // namespace lexring::cpu
