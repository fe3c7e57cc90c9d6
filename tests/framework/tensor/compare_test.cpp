#include "framework/tensor/compare.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace lexring {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
const double nan = std::nan("");

double error_of(std::vector<double> actual, std::vector<double> expected) {
  return relative_error(std::span<const double>(actual), std::span<const double>(expected));
}

TEST(Compare, RelativeToTheExpectedNorm) {
  EXPECT_EQ(error_of({3, 4}, {3, 4}), 0);
  EXPECT_DOUBLE_EQ(error_of({3, 4.5}, {3, 4}), 0.1);
  EXPECT_DOUBLE_EQ(error_of({0, 0}, {3, 4}), 1);
}

TEST(Compare, NanEqualsNothing) {
  EXPECT_EQ(error_of({nan}, {1}), inf);
  EXPECT_EQ(error_of({1}, {nan}), inf);
  EXPECT_EQ(error_of({1, nan}, {1, nan}), inf);
}

TEST(Compare, InfinitiesOfOneSignAreEqual) {
  EXPECT_EQ(error_of({1, -inf}, {1, -inf}), 0);
  EXPECT_EQ(error_of({1, inf}, {1, -inf}), inf);
  EXPECT_EQ(error_of({1, inf}, {1, 2}), inf);
  EXPECT_EQ(error_of({1, 2}, {1, inf}), inf);
}

TEST(Compare, OnlyZeroIsCloseToZero) {
  EXPECT_EQ(error_of({0, 0}, {0, 0}), 0);
  EXPECT_EQ(error_of({0, 1e-30}, {0, 0}), inf);
}

TEST(Compare, TensorsOfDifferentDtypesButOneShape) {
  const auto runtime = make_cpu_runtime();
  const Tensor doubles = Tensor::from<double>(*runtime, {2}, {1, 0.5});
  EXPECT_EQ(relative_error(Tensor::from<bfloat16>(*runtime, {2}, {bfloat16(1), bfloat16(0.5)}), doubles), 0);
  EXPECT_THROW(relative_error(doubles.reshape({1, 2}), doubles), Error);
  EXPECT_THROW(error_of({1}, {1, 2}), Error);
}

}  // namespace
}  // namespace lexring
