// Ranges of layers, one after the other by hand, are the whole model.
#include <map>

#include <gtest/gtest.h>

#include "framework/nn/init.h"
#include "models/parameter_plan.h"
#include "parallel/data/buckets.h"
#include "tests/models/model_testing.h"

namespace lexring {
namespace {

struct Case {
  std::string name;
  ModelConfig config;
  bool documents;
};

std::vector<Case> cases() {
  std::vector<Case> list = {{"lex", small_config("xpos", "blockwise"), true},
                            {"learned", small_config("learned", "window"), false},
                            {"t5", small_config("t5", "causal"), true},
                            {"sinusoidal", small_config("sinusoidal", "sink_window"), false}};
  list[1].config.sub_norm = true;
  list[3].config.tied = false;
  list[3].config.ffn = Ffn::swiglu;
  list[3].config.norm = NormKind::rmsnorm;
  list[3].config.bias = false;
  list[3].config.kv_heads = 2;
  for (Case& c : list) c.config.layers = 3;
  list[2].config.parallel = true;
  list[0].config.override[2] = {small_config("t5").position, small_config("none", "causal").attention};
  return list;
}

using Values = std::map<std::string, std::vector<double>>;

void add_gradients(Transformer& model, Values& sums) {
  for (const Parameter& parameter : model.parameters()) {
    std::vector<double>& sum = sums[parameter.name];
    const std::vector<double> part = host_values(parameter.gradient);
    sum.resize(part.size());
    for (std::size_t i = 0; i < part.size(); ++i) sum[i] += part[i];
  }
}

class LayerRangeTest : public ::testing::TestWithParam<Case> {};

/// The first range's output goes into the second, and the gradient of the second's input into the first. What both have
/// (a tied embedding, parameters of position methods) has its gradient in two parts.
TEST_P(LayerRangeTest, TwoRangesGiveTheLossAndEveryGradientOfTheWhole) {
  const Case& c = GetParam();
  const ModelBatch batch = small_batch(2, 19, c.config.vocab, c.documents, c.config.attention.sinks);
  for (const Recompute recompute : {Recompute::none, Recompute::layer}) {
    const ModelRuntime how{.precision = Precision::fp64, .residual = Dtype::f64, .recompute = recompute};
    SmallModel whole(c.config, how);
    const double loss = whole.model.train_step(batch, 0.03).nll_sum();
    Values should, values;
    add_gradients(whole.model, should);
    for (const Parameter& parameter : whole.model.parameters()) values[parameter.name] = host_values(parameter.value);

    for (std::int64_t cut = 0; cut <= c.config.layers; ++cut) {
      Transformer first(c.config, how, whole.context, *whole.backend, {0, cut, true, false}),
          second(c.config, how, whole.context, *whole.backend, {cut, c.config.layers, false, true});
      for (Transformer* part : {&first, &second}) {
        for (const Parameter& parameter : part->parameters()) set_values(parameter, values.at(parameter.name));
        part->refresh_compute();
        EXPECT_NO_THROW(cut_gradients(part->gradients(), part->parameters(), part->gradient_sections()));
      }
      RangeStep there = first.forward(batch, 0.03);
      RangeStep back = second.forward(batch, 0.03, there.output);
      EXPECT_EQ(back.loss.nll_sum(), loss) << "cut at " << cut;
      const StreamRows none = there.backward(back.backward({}));
      EXPECT_FALSE(none.x.defined() || none.branch.defined());

      Values found;
      add_gradients(first, found);
      add_gradients(second, found);
      ASSERT_EQ(found.size(), should.size());
      for (const auto& [name, gradient] : should) {
        const bool shared = name == "embedding" || name.starts_with("position.");
        ASSERT_EQ(found.at(name).size(), gradient.size());
        for (std::size_t i = 0; i < gradient.size(); ++i)
          ASSERT_NEAR(found.at(name)[i], gradient[i], shared ? 1e-12 : 0.0) << name << " cut at " << cut;
      }
    }
  }
}

TEST_P(LayerRangeTest, EveryParameterIsInSomeRangeAndSectionsAreTheRangesOwn) {
  const ModelConfig& config = GetParam().config;
  std::map<std::string, int> count;
  for (const LayerRange& range : {LayerRange{0, 1, true, false}, {1, 2, false, false}, {2, 3, false, true}}) {
    for (const ParameterRow& row : parameter_plan(config, range)) {
      ++count[row.name];
      EXPECT_LE(row.section, 2U) << row.name;
    }
  }
  for (const ParameterRow& row : parameter_plan(config)) {
    EXPECT_GE(count[row.name], 1) << row.name;
    if (row.of_position) continue;
    EXPECT_EQ(count[row.name], row.name == "embedding" && config.tied ? 2 : 1) << row.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LayerRangeTest, ::testing::ValuesIn(cases()),
                         [](const auto& given) { return given.param.name; });

TEST(LayerRange, RefusesWhatItCannotDo) {
  const ModelConfig config = small_config();
  const ModelRuntime how{.precision = Precision::fp64, .residual = Dtype::f64};
  SmallModel whole(config, how);
  const auto range = [&](const LayerRange& of) { return Transformer(config, how, whole.context, *whole.backend, of); };
  const ModelBatch batch = small_batch(1, 8, config.vocab, false);
  EXPECT_THROW(range({1, 3}), Error);
  EXPECT_THROW(range({0, 1, true, false}).train_step(batch, 1.0), Error);
  EXPECT_THROW(range({1, 2, false, true}).evaluate(batch), Error);
  EXPECT_THROW(static_cast<void>(range({1, 2, false, true}).forward(batch, 1.0)), Error) << "nothing arrived";
}

}  // namespace
}  // namespace lexring
