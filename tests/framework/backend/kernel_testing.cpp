#include "tests/framework/backend/kernel_testing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/tolerances.h"

namespace lexring::testing {
namespace {

template <class T>
std::vector<T> converted(const Values& values) {
  std::vector<T> result;
  for (const double v : values) result.push_back(T(static_cast<float>(v)));
  return result;
}

template <class T>
Values widened(const Tensor& tensor) {
  const std::vector<T> values = tensor.to_host<T>();
  return {values.begin(), values.end()};
}

}  // namespace

Values random_values(std::int64_t count, std::uint64_t seed, double scale) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  Values values(static_cast<std::size_t>(count));
  for (double& v : values) v = normal(generator);
  return values;
}

std::vector<std::int32_t> random_indices(std::int64_t count, std::int32_t below, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (auto& v : values) v = static_cast<std::int32_t>(generator() % static_cast<std::uint64_t>(below));
  return values;
}

Values rounded_to(Dtype dtype, Values values) {
  if (dtype == Dtype::f64) return values;
  for (double& v : values)
    v = dtype == Dtype::bf16 ? static_cast<float>(bfloat16(static_cast<float>(v))) : static_cast<float>(v);
  return values;
}

Tensor make(Backend& backend, Shape shape, Dtype dtype, const Values& values) {
  if (dtype == Dtype::f64) return Tensor::from(backend.runtime(), std::move(shape), values);
  if (dtype == Dtype::bf16) return Tensor::from(backend.runtime(), std::move(shape), converted<bfloat16>(values));
  return Tensor::from(backend.runtime(), std::move(shape), converted<float>(values));
}

Tensor make_output(Backend& backend, Shape shape, Dtype dtype) {
  const auto count = static_cast<std::size_t>(element_count(shape));
  return make(backend, std::move(shape), dtype, Values(count, std::numeric_limits<double>::quiet_NaN()));
}

Values read(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  if (tensor.dtype() == Dtype::f64) return widened<double>(tensor);
  return tensor.dtype() == Dtype::bf16 ? widened<bfloat16>(tensor) : widened<float>(tensor);
}

double largest_difference(const Values& a, const Values& b) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return infinity;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return infinity;
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

double relative_error(const Values& a, const Values& b) {
  const double worst = largest_difference(a, b);
  if (!std::isfinite(worst) || worst == 0) return worst;
  double difference = 0, norm = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] && !std::isfinite(b[i])) continue;
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
    largest = std::max(largest, std::abs(b[i]));
  }
  return largest == 0 ? worst : std::max(std::sqrt(difference / norm), worst / largest);
}

void expect_gradients(const Differentiable& function, std::vector<Values> inputs, int probes) {
  constexpr double step = 1e-5;
  const Values doutput = random_values(static_cast<std::int64_t>(function.forward(inputs).size()), 7001);
  const auto objective = [&] {
    const Values output = function.forward(inputs);
    double sum = 0;
    for (std::size_t i = 0; i < output.size(); ++i) sum += output[i] * doutput[i];
    return sum;
  };
  const std::vector<Values> gradients = function.backward(inputs, doutput);
  ASSERT_EQ(gradients.size(), inputs.size());
  for (std::size_t input = 0; input < inputs.size(); ++input) {
    Values& x = inputs[input];
    ASSERT_EQ(gradients[input].size(), x.size()) << "input " << input;
    const std::size_t stride = std::max<std::size_t>(1, x.size() / static_cast<std::size_t>(probes));
    Values analytic, numeric;
    for (std::size_t i = 0; i < x.size(); i += stride) {
      const double original = x[i];
      x[i] = original + step;
      const double above = objective();
      x[i] = original - step;
      const double below = objective();
      x[i] = original;
      analytic.push_back(gradients[input][i]);
      numeric.push_back((above - below) / (2 * step));
    }
    EXPECT_LT(relative_error(analytic, numeric), tolerance::central_difference) << "gradient of input " << input;
  }
}

}  // namespace lexring::testing
