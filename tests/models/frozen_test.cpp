// Parameters that are not trained: the rest has the gradients that it has among trained ones.
#include <map>

#include <gtest/gtest.h>

#include "models/parameter_plan.h"
#include "parallel/data/buckets.h"
#include "tests/models/model_testing.h"

namespace lexring {
namespace {

struct Case {
  std::string name;
  ModelConfig config;
  std::vector<std::string> frozen;
  std::size_t count;  ///< of frozen parameters
};

std::vector<Case> cases() {
  std::vector<Case> list = {
      {"matrices",
       small_config("xpos", "blockwise"),
       {"attention.query.weight", "key.weight", "value.weight", "ffn"},
       18},
      {"biases", small_config("t5"), {"bias"}, 17},
      {"first_layer_and_embedding", small_config("learned", "window"), {"layers.0", "embedding"}, 17},
      {"position", small_config("t5"), {"position"}, 1},
      {"norms_and_output", small_config("rope"), {"norm", "output"}, 8}};
  ModelConfig& gated = list[4].config;
  gated.ffn = Ffn::swiglu;
  gated.norm = NormKind::rmsnorm;
  gated.tied = gated.bias = false;
  return list;
}

class FrozenTest : public ::testing::TestWithParam<Case> {};

TEST_P(FrozenTest, TheOthersKeepTheirGradientsBitForBit) {
  const Case& c = GetParam();
  const ModelBatch batch = small_batch(2, 19, c.config.vocab, true);
  for (const Recompute recompute : {Recompute::none, Recompute::layer}) {
    ModelRuntime how{.precision = Precision::fp64, .residual = Dtype::f64, .recompute = recompute};
    SmallModel whole(c.config, how);
    how.frozen = c.frozen;
    SmallModel part(c.config, how);
    const double flops = part.model.step_flops(batch), all_flops = whole.model.step_flops(batch);
    EXPECT_EQ(flops < all_flops, c.name != "biases" && c.name != "position") << flops << " of " << all_flops;
    EXPECT_EQ(part.model.train_step(batch, 0.03).nll_sum(), whole.model.train_step(batch, 0.03).nll_sum());
    std::size_t frozen = 0, trained = 0;
    for (std::size_t i = 0; i < whole.model.parameters().size(); ++i) {
      const Parameter &mine = part.model.parameters()[i], &theirs = whole.model.parameters()[i];
      EXPECT_EQ(mine.value.to_host<double>(), theirs.value.to_host<double>()) << mine.name;
      if (!mine.gradient.defined()) {
        ++frozen;
        continue;
      }
      EXPECT_EQ(mine.gradient.to_host<double>(), theirs.gradient.to_host<double>()) << mine.name;
      EXPECT_EQ(part.model.trained().at(trained++).name, mine.name);
    }
    EXPECT_EQ(frozen, c.count);
    EXPECT_EQ(trained, part.model.trained().size());
    EXPECT_NO_THROW(cut_gradients(part.model.gradients(), part.model.trained(), part.model.gradient_sections()));
    EXPECT_LT(part.model.gradients().elements(), whole.model.gradients().elements());
    EXPECT_LT(part.model.trained_count(), part.model.parameter_count());
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, FrozenTest, ::testing::ValuesIn(cases()),
                         [](const auto& given) { return given.param.name; });

TEST(Frozen, ValuesAreHeldWhereOnlyAShardedOptimizerHasTheOthers) {
  for (const Held held : {Held::gradients, Held::section}) {
    const SmallModel small(small_config(), {.precision = Precision::fp32}, make_cpu_backend());
    Transformer model(small_config(), {.precision = Precision::bf16, .held = held, .frozen = {"layers.0"}},
                      small.context, *small.backend);
    for (const Parameter& parameter : model.parameters()) {
      const bool frozen = parameter.name.starts_with("layers.0.");
      EXPECT_EQ(frozen, !parameter.gradient.defined()) << parameter.name;
      EXPECT_TRUE(parameter.value.defined() || !frozen) << parameter.name;
    }
  }
}

TEST(Frozen, NamesThatMeanNothingAreRefused) {
  const ModelConfig config = small_config();
  const auto refused = [&](const std::vector<std::string>& names, const std::string& message) {
    try {
      const SmallModel small(config, {.precision = Precision::fp64, .frozen = names});
      ADD_FAILURE() << message;
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
    }
  };
  refused({"norm", "layers.2"}, "train.frozen = layers.2 names no parameter");
  refused({"mbedding"}, "names no parameter");
  refused({"layers", "embedding", "norm"}, "leaves nothing to train");
  refused({"query"}, "computed in one product");
}

TEST(Frozen, ARangeOfLayersMayHaveNothingToTrain) {
  const ModelConfig config = small_config();
  const ModelRuntime how{.precision = Precision::fp64, .residual = Dtype::f64, .frozen = {"layers.1"}};
  const SmallModel small(config, how);
  Transformer model(config, how, small.context, *small.backend, {1, 2, false, false});
  EXPECT_TRUE(model.trained().empty());
  EXPECT_EQ(model.gradients().elements(), 0);
}

}  // namespace
}  // namespace lexring
