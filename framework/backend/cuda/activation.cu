#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/kernels.h"
#include "framework/backend/dispatch.h"

namespace lexring::cuda {
namespace {

constexpr int threads = 256;
constexpr int unroll = 2;  ///< vectors of a thread: keeps 32 bytes of each input and thread in flight
constexpr float log2_e = 1.44269504F;
constexpr float inverse_sqrt_two_pi = 0.39894228F;

/// Elements of a 16-byte access.
template <class T>
constexpr int vector = 16 / static_cast<int>(sizeof(T));

// At 4 bytes an element a GPU of 4.8 TB/s has some 25 instructions for each; hence polynomials and 2^x rather than erff
// and expf.

/// The normal distribution function to 1e-7 absolute: 2 to a polynomial (the cpu backend's minimax fit) on the side
/// below 1/2.
__device__ inline float normal_cdf(float x) {
  const float z = fminf(fabsf(x), 8.0F);
  float power = 9.84366864e-08F;
  power = power * z - 2.81112261e-06F;
  power = power * z + 3.0580537e-05F;
  power = power * z - 0.000133050344F;
  power = power * z - 0.000272412028F;
  power = power * z + 0.00723706605F;
  power = power * z - 0.0526090637F;
  power = power * z - 0.459174097F;
  power = power * z - 1.15110898F;
  power = power * z - 0.99999994F;
  const float tail = exp2_fast(power);
  return x > 0.0F ? 1.0F - tail : tail;
}
/// 0 where e^-x is infinite.
__device__ inline float sigmoid(float x) { return __fdividef(1.0F, 1.0F + exp2_fast(-log2_e * x)); }

// Of each gelu: what u is multiplied with, and how that changes with u. (1 + tanh z) / 2 = sigmoid(2 z).

struct Exact {
  __device__ static float gate(float u) { return normal_cdf(u); }
  __device__ static float slope(float u, float) { return inverse_sqrt_two_pi * exp2_fast(-0.5F * log2_e * u * u); }
};
struct Tanh {
  static constexpr float twice_root = 1.59576912F, cubic = 0.044715F;  ///< 2 sqrt(2 / pi)
  __device__ static float gate(float u) { return sigmoid(twice_root * u * (1.0F + cubic * u * u)); }
  __device__ static float slope(float u, float gate) {
    return twice_root * gate * (1.0F - gate) * (1.0F + 3.0F * cubic * u * u);
  }
};
template <class F>
struct Forward {
  __device__ static float apply(float u) { return u * F::gate(u); }
};
template <class F>
struct Backward {
  __device__ static float apply(float u, float da) {
    const float gate = F::gate(u);
    return da * (gate + u * F::slope(u, gate));
  }
};

/// to = f(from) by element. Bytes: one read, one written.
template <class F, int n, class T>
__global__ void __launch_bounds__(threads) map(const T* from, T* to, std::int64_t count) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (threads * unroll * n) + threadIdx.x * n;
  const std::int64_t whole = count - count % n;  // the first threads take one each of the elements after these
  Floats<n> x[unroll];
  LEXRING_UNROLL for (int k = 0; k < unroll; ++k) {
    const std::int64_t i = first + k * threads * n;
    if (i < whole) x[k] = load<n>(from + i);
  }
  LEXRING_UNROLL for (int k = 0; k < unroll; ++k) {
    const std::int64_t i = first + k * threads * n;
    if (i >= whole) break;
    LEXRING_UNROLL for (int j = 0; j < n; ++j) x[k][j] = F::apply(x[k][j]);
    store<n>(to + i, x[k]);
  }
  if (first / n < count - whole) {
    const std::int64_t i = whole + first / n;
    to[i] = from_float<T>(F::apply(to_float(from[i])));
  }
}
/// to = f(a, b) by element. Bytes: two read, one written.
template <class F, int n, class T>
__global__ void __launch_bounds__(threads) map(const T* a, const T* b, T* to, std::int64_t count) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (threads * unroll * n) + threadIdx.x * n;
  const std::int64_t whole = count - count % n;  // the first threads take one each of the elements after these
  Floats<n> x[unroll], y[unroll];
  LEXRING_UNROLL for (int k = 0; k < unroll; ++k) {
    const std::int64_t i = first + k * threads * n;
    if (i < whole) x[k] = load<n>(a + i), y[k] = load<n>(b + i);
  }
  LEXRING_UNROLL for (int k = 0; k < unroll; ++k) {
    const std::int64_t i = first + k * threads * n;
    if (i >= whole) break;
    LEXRING_UNROLL for (int j = 0; j < n; ++j) x[k][j] = F::apply(x[k][j], y[k][j]);
    store<n>(to + i, x[k]);
  }
  if (first / n < count - whole) {
    const std::int64_t i = whole + first / n;
    to[i] = from_float<T>(F::apply(to_float(a[i]), to_float(b[i])));
  }
}

/// One element to a thread. Bytes: all read and written once.
__global__ void __launch_bounds__(threads) cap_logits(float* logits, float cap, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < count) logits[i] = cap * (2.0F * sigmoid(2.0F / cap * logits[i]) - 1.0F);  // tanh x = 2 sigmoid(2x) - 1
}
template <class T>
__global__ void __launch_bounds__(threads)
    cap_gradient(const float* logits, float cap, T* dlogits, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  const float of_cap = logits[i] / cap;
  dlogits[i] = from_float<T>(to_float(dlogits[i]) * (1.0F - of_cap * of_cap));
}

dim3 blocks_for(std::int64_t count, int of_block) {
  return {static_cast<unsigned>(ceil_div<std::int64_t>(count, of_block))};
}

/// Where a thread's n columns of [N, width] are, counted in elements: `single` of the matrix, `pair` of one twice as
/// wide.
struct Place {
  std::int64_t single, pair;
  bool inside;
};
template <int n>
__device__ Place place_of_thread(std::int64_t rows, int width) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  const int in_row = width / n;
  const std::int64_t all = rows * in_row;  // a division of 64 bits costs as much as the rest, so not where 32 do
  const std::int64_t row =
      all >> 32 ? i / in_row : static_cast<std::int64_t>(static_cast<unsigned>(i) / static_cast<unsigned>(in_row));
  return {i * n, (i + row * in_row) * n, i < all};
}

/// n divides width. Bytes: two read, one written.
template <int n, class T>
__global__ void __launch_bounds__(threads) swiglu_forward(const T* gate_up, T* a, std::int64_t rows, int width) {
  const Place at = place_of_thread<n>(rows, width);
  if (!at.inside) return;
  Floats<n> gate = load<n>(gate_up + at.pair);
  const Floats<n> up = load<n>(gate_up + at.pair + width);
  LEXRING_UNROLL for (int j = 0; j < n; ++j) gate[j] = gate[j] * sigmoid(gate[j]) * up[j];
  store<n>(a + at.single, gate);
}
/// n divides width. Bytes: three read, two written.
template <int n, class T>
__global__ void __launch_bounds__(threads)
    swiglu_gradient(const T* gate_up, const T* da, T* dgate_up, std::int64_t rows, int width) {
  const Place at = place_of_thread<n>(rows, width);
  if (!at.inside) return;
  Floats<n> gate = load<n>(gate_up + at.pair), up = load<n>(gate_up + at.pair + width);
  const Floats<n> d = load<n>(da + at.single);
  LEXRING_UNROLL for (int j = 0; j < n; ++j) {
    const float g = gate[j], s = sigmoid(g);
    gate[j] = d[j] * up[j] * s * (1.0F + g * (1.0F - s));
    up[j] = d[j] * g * s;
  }
  store<n>(dgate_up + at.pair, gate);
  store<n>(dgate_up + at.pair + width, up);
}

}  // namespace

void soft_cap(const Gpu& gpu, const Tensor& logits, double cap) {
  launch(gpu.stream, blocks_for(logits.elements(), threads), threads, 0, cap_logits, logits.data<float>(),
         static_cast<float>(cap), logits.elements());
}

void soft_cap_backward(const Gpu& gpu, const Tensor& logits, double cap, const Tensor& dlogits) {
  with_type(dlogits.dtype(), [&]<class T>(Type<T>) {
    launch(gpu.stream, blocks_for(logits.elements(), threads), threads, 0, cap_gradient<T>,
           static_cast<const float*>(logits.data<float>()), static_cast<float>(cap), dlogits.data<T>(),
           logits.elements());
  });
}

void gelu(const Gpu& gpu, Gelu kind, const Tensor& u, const Tensor& a) {
  with_type(u.dtype(), [&]<class T>(Type<T>) {
    const T* from = u.data<T>();
    T* to = a.data<T>();
    const auto with = [&](int n, void (*kernel)(const T*, T*, std::int64_t)) {
      launch(gpu.stream, blocks_for(u.elements(), threads * unroll * n), threads, 0, kernel, from, to, u.elements());
    };
    const auto of = [&]<class F>(F) {
      if (aligned(from) && aligned(to)) with(vector<T>, map<Forward<F>, vector<T>, T>);
      else with(1, map<Forward<F>, 1, T>);
    };
    if (kind == Gelu::exact) of(Exact());
    else of(Tanh());
  });
}

void gelu_backward(const Gpu& gpu, Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) {
  with_type(u.dtype(), [&]<class T>(Type<T>) {
    const T *from = u.data<T>(), *incoming = da.data<T>();
    T* to = du.data<T>();
    const auto with = [&](int n, void (*kernel)(const T*, const T*, T*, std::int64_t)) {
      launch(gpu.stream, blocks_for(u.elements(), threads * unroll * n), threads, 0, kernel, from, incoming, to,
             u.elements());
    };
    const auto of = [&]<class F>(F) {
      if (aligned(from) && aligned(incoming) && aligned(to)) with(vector<T>, map<Backward<F>, vector<T>, T>);
      else with(1, map<Backward<F>, 1, T>);
    };
    if (kind == Gelu::exact) of(Exact());
    else of(Tanh());
  });
}

void swiglu(const Gpu& gpu, const Tensor& gate_up, const Tensor& a) {
  const int width = static_cast<int>(a.row_elements());
  with_type(a.dtype(), [&]<class T>(Type<T>) {
    const T* from = gate_up.data<T>();
    T* to = a.data<T>();
    const auto with = [&](int n, auto* kernel) {
      launch(gpu.stream, blocks_for(a.elements(), threads * n), threads, 0, kernel, from, to, a.rows(), width);
    };
    if (width % vector<T> == 0 && aligned(from) && aligned(to)) with(vector<T>, swiglu_forward<vector<T>, T>);
    else with(1, swiglu_forward<1, T>);
  });
}

void swiglu_backward(const Gpu& gpu, const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) {
  const int width = static_cast<int>(da.row_elements());
  with_type(da.dtype(), [&]<class T>(Type<T>) {
    const T *from = gate_up.data<T>(), *incoming = da.data<T>();
    T* to = dgate_up.data<T>();
    const auto with = [&](int n, auto* kernel) {
      launch(gpu.stream, blocks_for(da.elements(), threads * n), threads, 0, kernel, from, incoming, to, da.rows(),
             width);
    };
    if (width % vector<T> == 0 && aligned(from) && aligned(incoming) && aligned(to))
      with(vector<T>, swiglu_gradient<vector<T>, T>);
    else with(1, swiglu_gradient<1, T>);
  });
}

}  // namespace lexring::cuda
