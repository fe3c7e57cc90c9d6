// What every source of tensors has from its base: checks and conversions.
#include "parallel/checkpoint/tensor_source.h"

#include "tests/parallel/checkpoint/checkpoint_fixture.h"
#include "tests/support/memory_source.h"

namespace lexring {
namespace {

class TensorSourceTest : public ::testing::Test {
 protected:
  TensorSourceTest() {
    source.add<double>("w", Dtype::f64, {2, 3}, {0.1, 1, 2, 3, 4.004, 5});
    source.add<std::int32_t>("ids", Dtype::i32, {2}, {7, 8});
    source.add<double>("scalar", Dtype::f64, {}, {0.1});
  }
  Tensor read(const std::string& name, const Shape& full, const Shape& offset, const Shape& shape, Dtype dtype) {
    Tensor data(*runtime, shape, dtype);
    source.read({name, full, offset, data});
    return data;
  }

  std::unique_ptr<Runtime> runtime = make_cpu_runtime();
  testing::MemorySource source;
};

TEST_F(TensorSourceTest, PartsAreConverted) {
  EXPECT_EQ(read("w", {2, 3}, {0, 0}, {2, 3}, Dtype::f64).to_host<double>(),
            (std::vector<double>{0.1, 1, 2, 3, 4.004, 5}));
  EXPECT_EQ(read("w", {2, 3}, {0, 1}, {2, 2}, Dtype::f32).to_host<float>(), (std::vector<float>{1, 2, 4.004F, 5}));
  EXPECT_EQ(read("w", {2, 3}, {1, 1}, {1, 1}, Dtype::bf16).to_host<bfloat16>()[0], bfloat16(4.004F));
  EXPECT_EQ(read("ids", {2}, {1}, {1}, Dtype::i32).to_host<std::int32_t>(), std::vector<std::int32_t>{8});
  EXPECT_EQ(read("scalar", {}, {}, {}, Dtype::f32).to_host<float>(), std::vector<float>{0.1F});
  EXPECT_EQ(read("w", {2, 3}, {2, 0}, {0, 3}, Dtype::f32).elements(), 0) << "nothing to read, nothing is asked for";
}

TEST_F(TensorSourceTest, WhatDoesNotFitIsNamed) {
  const auto message = [&](const std::string& name, const Shape& full, const Shape& offset, const Shape& shape,
                           Dtype dtype) { return error_of([&] { read(name, full, offset, shape, dtype); }); };
  expect_contains(message("x", {2, 3}, {0, 0}, {2, 3}, Dtype::f32), "memory: there is no tensor x");
  expect_contains(message("w", {3, 2}, {0, 0}, {3, 2}, Dtype::f32), "has shape [2, 3], but [3, 2] is needed");
  expect_contains(message("w", {2, 3}, {0, 0}, {2, 3}, Dtype::i32), "is f64, but i32 is needed");
  expect_contains(message("w", {2, 3}, {0}, {2}, Dtype::f32), "does not fit shape [2, 3]");
  expect_contains(message("w", {2, 3}, {0, 2}, {2, 2}, Dtype::f32), "is not inside shape [2, 3]");
  expect_contains(message("w", {2, 3}, {-1, 0}, {2, 3}, Dtype::f32), "is not inside shape [2, 3]");
}

}  // namespace
}  // namespace lexring
