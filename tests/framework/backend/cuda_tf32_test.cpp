#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "framework/backend/cuda_backend.h"
#include "tests/framework/backend/kernel_testing.h"

namespace lexring::testing {
namespace {

/// Products in TF32 are off by what 10 bits of mantissa lose, and not by more; without being asked nothing is rounded.
TEST(CudaProducts, SmallTf32OnlyWhenAsked) {
  const std::int64_t rows = 256, width = 512;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(rows * width)), w(static_cast<std::size_t>(width * width));
  for (float& v : x) v = normal(random);
  for (float& v : w) v = normal(random);
  const auto product = [&](Backend& backend) {
    const Tensor y(backend.runtime(), {rows, width}, Dtype::f32);
    backend.linear(Tensor::from(backend.runtime(), {rows, width}, x),
                   Tensor::from(backend.runtime(), {width, width}, w), Tensor(), y);
    const std::vector<float> values = y.to_host<float>();
    return Values(values.begin(), values.end());
  };
  const Values exact = product(*make_reference_backend());
  EXPECT_LT(relative_error(product(*make_cuda_backend(0)), exact), 5e-6);
  const double rounded = relative_error(product(*make_cuda_backend(0, {.f32 = F32Products::tf32})), exact);
  EXPECT_LT(rounded, 1e-3);
  EXPECT_GT(rounded, 5e-6);
}

}  // namespace
}  // namespace lexring::testing
