#include "parallel/comm/fold.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {
namespace {

/// In strips whose accumulators stay in the nearest cache. All parts of a strip are read before `to` is written.
template <class T, class Accumulator, auto combine>
void fold(std::span<std::byte> to, std::span<const std::byte* const> parts) {
  constexpr std::size_t strip = 1024;
  Accumulator sums[strip];
  const std::size_t count = to.size() / sizeof(T);
  for (std::size_t first = 0; first < count; first += strip) {
    const std::size_t n = std::min(strip, count - first);
    const T* part = reinterpret_cast<const T*>(parts[0]) + first;
    for (std::size_t i = 0; i < n; ++i) sums[i] = static_cast<Accumulator>(part[i]);
    for (const std::byte* other : parts.subspan(1)) {
      part = reinterpret_cast<const T*>(other) + first;
      for (std::size_t i = 0; i < n; ++i) sums[i] = combine(sums[i], static_cast<Accumulator>(part[i]));
    }
    T* result = reinterpret_cast<T*>(to.data()) + first;
    for (std::size_t i = 0; i < n; ++i) result[i] = static_cast<T>(sums[i]);
  }
}

template <class T>
T sum(T a, T b) {
  return a + b;
}

// NaN wins from either side: no comparison with it holds.
template <class T>
T larger(T a, T b) {
  return a != a || a > b ? a : b;  // NOLINT(misc-redundant-expression)
}

template <class T>
T smaller(T a, T b) {
  return a != a || a < b ? a : b;  // NOLINT(misc-redundant-expression)
}

}  // namespace

Fold sum_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return fold<float, float, sum<float>>;
    case Dtype::f64:
      return fold<double, double, sum<double>>;
    case Dtype::bf16:
      return fold<bfloat16, float, sum<float>>;
    case Dtype::i32:
      break;
  }
  fail("a reduction of {} was asked for; reduce floating values, or int64 with all_reduce", name_of(dtype));
}

template <class T>
Fold fold_of(Reduce op) {
  switch (op) {
    case Reduce::max:
      return fold<T, T, larger<T>>;
    case Reduce::min:
      return fold<T, T, smaller<T>>;
    case Reduce::sum:
      break;
  }
  return fold<T, T, sum<T>>;
}

template Fold fold_of<float>(Reduce op);
template Fold fold_of<double>(Reduce op);
template Fold fold_of<std::int64_t>(Reduce op);

}  // namespace lexring
