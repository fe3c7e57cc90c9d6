#include "parallel/tensor/whole_tensor.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "framework/backend/backend.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

std::vector<double> counted(const Shape& shape) {
  std::vector<double> values(static_cast<std::size_t>(element_count(shape)));
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

/// A parameter of which this rank holds an even slice of dimension `cut`.
Parameter part_of(Runtime& runtime, const Shape& full, std::size_t cut) {
  const Communicator& tp = *testing::world();
  const auto borders = even_borders(full[cut], tp.size());
  const auto r = static_cast<std::size_t>(tp.rank());
  Parameter parameter;
  parameter.full_shape = full;
  parameter.offset = Shape(full.size(), 0);
  parameter.offset[cut] = borders[r];
  Shape shape = full;
  shape[cut] = borders[r + 1] - borders[r];
  parameter.value = Tensor(runtime, shape, Dtype::f32);
  return parameter;
}

TEST(WholeTensor, IsPutTogetherFromWhatItWasCutInto) {
  const auto backend = make_reference_backend();
  const std::vector<std::pair<Shape, std::size_t>> cases = {{{7}, 0}, {{5, 4}, 0}, {{5, 4}, 1}, {{2, 1}, 1}};
  for (const auto& [full, cut] : cases) {
    Parameter parameter = part_of(backend->runtime(), full, cut);
    const std::vector<double> mine = own_part(parameter, counted(full));
    ASSERT_EQ(static_cast<std::int64_t>(mine.size()), parameter.value.elements());
    parameter.value =
        Tensor::from(backend->runtime(), parameter.value.shape(), std::vector<float>(mine.begin(), mine.end()));
    EXPECT_EQ(whole_tensor(parameter, parameter.value, *testing::world()), counted(full))
        << to_string(full) << " cut along " << cut;
  }
}

TEST(WholeTensor, WhatNobodyHoldsIsNaN) {
  const auto backend = make_reference_backend();
  Parameter parameter = part_of(backend->runtime(), {4, 3}, 0);
  parameter.full_shape = {5, 3};
  const std::vector<double> whole = whole_tensor(parameter, parameter.value, *testing::world());
  for (std::size_t i = 12; i < 15; ++i) EXPECT_TRUE(std::isnan(whole[i]));
}

}  // namespace
}  // namespace lexring
