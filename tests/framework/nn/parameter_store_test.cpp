#include "framework/nn/parameter_store.h"

#include <gtest/gtest.h>

#include "framework/base/random.h"
#include "framework/nn/init.h"

namespace lexring {
namespace {

TEST(ParameterStore, RowsOfAFusedArrayAreParametersInTheGivenOrder) {
  const auto backend = make_reference_backend();
  ParameterStore store;
  const std::size_t fused = store.declare({{"query", {2, 3}}, {"key", {1, 3}}});
  const std::size_t bias = store.declare({{"bias", {2}}});
  store.allocate(*backend, Dtype::f32, Dtype::f32, {{"query", {2, 3}}, {"bias", {2}}, {"key", {1, 3}}});
  ASSERT_EQ(store.parameters().size(), 3U);
  EXPECT_EQ(store.parameters()[1].name, "bias");
  EXPECT_FALSE(store.parameters()[1].compute.defined());
  const Weight weight = store.weight(fused);
  EXPECT_EQ(weight.compute.shape(), (Shape{3, 3}));
  EXPECT_EQ(weight.gradient.slice(2, 1).raw(), store.parameters()[2].gradient.raw());
  set_values(store.parameters()[2], {7, 8, 9});
  EXPECT_EQ(weight.compute.slice(2, 1).to_host<float>(), (std::vector<float>{7, 8, 9}));
  EXPECT_EQ(store.vector(bias).value.shape(), Shape{2});
}

TEST(ParameterStore, GradientsAreOneZeroedBuffer) {
  const auto backend = make_reference_backend();
  ParameterStore store;
  store.declare({{"a", {5}}});
  store.declare({{"b", {3, 7}}});
  store.allocate(*backend, Dtype::f64, Dtype::f64, {{"a", {5}}, {"b", {3, 7}}});
  EXPECT_EQ(backend->sum_of_squares(store.gradients()), 0.0);
  for (const Parameter& parameter : store.parameters()) backend->fill(parameter.gradient, 2.0);
  EXPECT_EQ(backend->sum_of_squares(store.gradients()), 4.0 * (5 + 21));
}

TEST(ParameterStore, NamesWithoutAPlaceOrWithoutAnArrayAreErrors) {
  const auto backend = make_reference_backend();
  ParameterStore one;
  one.declare({{"a", {5}}});
  EXPECT_THROW(one.allocate(*backend, Dtype::f32, Dtype::f32, {}), Error);
  ParameterStore two;
  two.declare({{"a", {5}}});
  EXPECT_THROW(two.allocate(*backend, Dtype::f32, Dtype::f32, {{"a", {5}}, {"b", {5}}}), Error);
  ParameterStore three;
  three.declare({{"a", {5, 2}}, {"b", {5, 3}}});
  EXPECT_THROW(three.allocate(*backend, Dtype::f32, Dtype::f32, {{"a", {5, 2}}, {"b", {5, 3}}}), Error);
}

TEST(Init, APartOfAParameterGetsTheValuesOfItsPlace) {
  const auto backend = make_reference_backend();
  Runtime& runtime = backend->runtime();
  Parameter whole{.name = "w",
                  .full_shape = {6, 4},
                  .offset = {0, 0},
                  .value = Tensor(runtime, {6, 4}, Dtype::f64),
                  .gradient = {},
                  .compute = {}};
  Parameter part{.name = "w",
                 .full_shape = {6, 4},
                 .offset = {2, 1},
                 .value = Tensor(runtime, {3, 2}, Dtype::f64),
                 .gradient = {},
                 .compute = {}};
  init_normal(whole, 11, 0.5);
  init_normal(part, 11, 0.5);
  const auto all = whole.value.to_host<double>();
  const auto own = part.value.to_host<double>();
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 2; ++column)
      EXPECT_EQ(own[row * 2 + column], all[(row + 2) * 4 + column + 1]);
  }
}

TEST(Init, UniformValuesLieInTheIntervalOfTheirRow) {
  const auto backend = make_reference_backend();
  const auto draw = [&](std::int64_t first_row, std::int64_t rows, std::int64_t first_column, std::int64_t columns) {
    const Parameter part{.name = "w",
                         .full_shape = {3, 100},
                         .offset = {first_row, first_column},
                         .value = Tensor(backend->runtime(), {rows, columns}, Dtype::f64),
                         .gradient = {},
                         .compute = {}};
    init_uniform(part, 11, {{0, 1}, {2, 4}, {5, 6}});
    return part.value.to_host<double>();
  };
  const auto all = draw(0, 3, 0, 100), part = draw(1, 2, 30, 7);
  for (std::size_t row = 0; row < 2; ++row) {
    for (std::size_t column = 0; column < 7; ++column)
      EXPECT_EQ(part[row * 7 + column], all[(row + 1) * 100 + column + 30]);
  }
  double sum = 0;
  for (std::size_t column = 0; column < 100; ++column) {
    const double value = all[100 + column];
    EXPECT_TRUE(value >= 2 && value < 4) << value;
    sum += value;
  }
  EXPECT_NEAR(sum / 100, 3, 0.25);
}

// More elements than are drawn at once, with rows across the border.
TEST(Init, ALargePartInSinglePrecisionHasTheRoundedValues) {
  const auto backend = make_reference_backend();
  const Parameter part{.name = "w",
                       .full_shape = {2000, 900},
                       .offset = {700, 3},
                       .value = Tensor(backend->runtime(), {1250, 890}, Dtype::f32),
                       .gradient = {},
                       .compute = {}};
  init_normal(part, 11, 0.5);
  const auto own = part.value.to_host<float>();
  for (std::int64_t row = 0; row < 1250; ++row) {
    for (std::int64_t column = 0; column < 890; ++column) {
      const auto index = static_cast<std::uint64_t>((row + 700) * 900 + column + 3);
      ASSERT_EQ(own[static_cast<std::size_t>(row * 890 + column)],
                static_cast<float>(0.5 * random_normal(11, stream_id("w"), index)))
          << row << ", " << column;
    }
  }
}

TEST(Init, DependsOnSeedAndName) {
  const auto backend = make_reference_backend();
  const auto draw = [&](const std::string& name, std::uint64_t seed) {
    const Parameter p{.name = name,
                      .full_shape = {1000},
                      .offset = {0},
                      .value = Tensor(backend->runtime(), {1000}, Dtype::f64),
                      .gradient = {},
                      .compute = {}};
    init_normal(p, seed, 2.0);
    return p.value.to_host<double>();
  };
  EXPECT_EQ(draw("a", 1), draw("a", 1));
  EXPECT_NE(draw("a", 1), draw("b", 1));
  EXPECT_NE(draw("a", 1), draw("a", 2));
  double sum = 0;
  double squares = 0;
  for (const double x : draw("a", 1)) {
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 1000, 0.0, 0.25);
  EXPECT_NEAR(squares / 1000, 4.0, 0.6);
}

}  // namespace
}  // namespace lexring
