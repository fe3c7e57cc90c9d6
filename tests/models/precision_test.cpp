// The CPU's working precisions: they train, and stay near the reference.
#include <cmath>

#include <gtest/gtest.h>

#include "framework/optim/adamw.h"
#include "tests/models/model_testing.h"

namespace lexring {
namespace {

struct Case {
  std::string name;
  ModelRuntime how;
};

class PrecisionTest : public ::testing::TestWithParam<Case> {};

TEST_P(PrecisionTest, LearnsABatchByHeart) {
  ModelConfig config = small_config("xpos", "blockwise");
  config.width = 32;
  SmallModel small(config, GetParam().how, make_cpu_backend());
  small.model.initialise(3);
  const ModelBatch batch = small_batch(2, 24, config.vocab, true);
  double counted = 0;
  for (const std::int32_t target : batch.targets) counted += target >= 0 ? 1 : 0;
  AdamWOptimizer optimizer(*small.backend, small.model.parameters(), {});
  const double before = small.model.evaluate(batch).nll_sum() / counted;
  for (int step = 0; step < 60; ++step) {
    zero_gradients(small.model);
    small.model.train_step(batch, 1.0 / counted);
    optimizer.step(1e-2);
  }
  EXPECT_GT(before, 3.0);
  EXPECT_LT(small.model.evaluate(batch).nll_sum() / counted, 0.5);
}

TEST_P(PrecisionTest, TheLossIsTheReferences) {
  ModelConfig config = small_config("xpos", "blockwise");
  config.override[1] = config.layer(1);
  config.override[1].attention.forget_gate = true;
  const ModelBatch batch = small_batch(2, 24, config.vocab, true);
  SmallModel exact(config, {.precision = Precision::fp64});
  SmallModel small(config, GetParam().how, make_cpu_backend());
  const double expected = exact.model.evaluate(batch).nll_sum();
  EXPECT_NEAR(small.model.evaluate(batch).nll_sum(), expected,
              (GetParam().how.precision == Precision::bf16 ? 1e-2 : 1e-5) * expected);
}

TEST_P(PrecisionTest, TwoRunsAreBitIdentical) {
  const ModelConfig config = small_config("xpos", "blockwise");
  const ModelBatch batch = small_batch(2, 24, config.vocab, true);
  std::vector<std::vector<double>> found;
  for (int run = 0; run < 2; ++run) {
    SmallModel small(config, GetParam().how, make_cpu_backend());
    small.model.train_step(batch, 0.01);
    found.push_back(host_values(small.model.gradients()));
  }
  EXPECT_EQ(found[0], found[1]);
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, PrecisionTest,
    ::testing::Values(Case{"fp32", {.precision = Precision::fp32}}, Case{"bf16", {.precision = Precision::bf16}},
                      Case{"bf16_residual", {.precision = Precision::bf16, .residual = Dtype::bf16}},
                      Case{"bf16_recompute", {.precision = Precision::bf16, .recompute = Recompute::layer}}),
    [](const auto& given) { return given.param.name; });

TEST(Precision, Fp64NeedsTheReference) {
  const auto backend = make_cpu_backend();
  const Context context;
  EXPECT_THROW(Transformer(small_config(), {.precision = Precision::fp64}, context, *backend), UsageError);
}

}  // namespace
}  // namespace lexring
