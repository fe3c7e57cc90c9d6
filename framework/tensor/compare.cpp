#include "framework/tensor/compare.h"

#include <cmath>
#include <limits>

namespace lexring {

double relative_error(std::span<const double> actual, std::span<const double> expected) {
  require(actual.size() == expected.size(), "{} values cannot be compared with {}", actual.size(), expected.size());
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isinf(expected[i]) && actual[i] == expected[i]) continue;
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  if (difference == 0) return 0;
  const double error = std::sqrt(difference) / std::sqrt(size);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

double relative_error(const Tensor& actual, const Tensor& expected) {
  require(actual.shape() == expected.shape(), "a tensor of shape {} cannot be compared with one of shape {}",
          to_string(actual.shape()), to_string(expected.shape()));
  return relative_error(to_doubles(actual), to_doubles(expected));
}

std::vector<double> to_doubles(const Tensor& tensor) {
  const auto converted = [](const auto& values) { return std::vector<double>(values.begin(), values.end()); };
  switch (tensor.dtype()) {
    case Dtype::f64:
      return tensor.to_host<double>();
    case Dtype::f32:
      return converted(tensor.to_host<float>());
    case Dtype::bf16:
      return converted(tensor.to_host<bfloat16>());
    case Dtype::i32:
      break;
  }
  fail("a tensor of {} has no floating-point values to compare", name_of(tensor.dtype()));
}

}  // namespace lexring
