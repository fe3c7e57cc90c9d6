// Gradients of whole models against central differences in f64, and against themselves when recomputed.
#include <cmath>

#include <gtest/gtest.h>

#include "framework/nn/init.h"
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
                            {"alibi", small_config("alibi", "sink_window"), true}};
  Case llama{"llama", small_config("rope", "causal"), false};
  llama.config.kv_heads = 2;
  llama.config.norm = NormKind::rmsnorm;
  llama.config.ffn = Ffn::swiglu;
  llama.config.bias = false;
  llama.config.tied = false;
  list.push_back(llama);
  Case subnorm{"subnorm_learned", small_config("learned", "window"), false};
  subnorm.config.sub_norm = true;
  list.push_back(subnorm);
  Case gated{"gated_with_everything", small_config("xpos", "blockwise"), true};
  gated.config.ffn = Ffn::swiglu;
  gated.config.sub_norm = true;
  gated.config.tied = false;
  gated.config.kv_heads = 2;
  list.push_back(gated);
  Case parallel{"parallel", small_config("rope", "causal"), true};
  parallel.config.kv_heads = 2;
  parallel.config.head_width = 6;
  parallel.config.ffn = Ffn::gelu_tanh;
  parallel.config.bias = false;
  parallel.config.qkv_bias = parallel.config.qk_norm = parallel.config.parallel = true;
  list.push_back(parallel);
  Case lora{"lora", small_config("rope", "causal"), true};
  lora.config.adapter.rank = 3;
  lora.config.adapter.alpha = 2;
  lora.config.adapter.targets = {AdapterTarget::query, AdapterTarget::value, AdapterTarget::output, AdapterTarget::gate,
                                 AdapterTarget::down};
  lora.config.adapter.trainable = "norm,embedding";
  lora.config.ffn = Ffn::swiglu;
  lora.config.kv_heads = 2;
  list.push_back(lora);
  list.push_back({"kerple_log", small_config("kerple_log"), true});
  list.push_back({"kerple_power", small_config("kerple_power", "window"), false});
  Case fire{"fire", small_config("fire"), true};
  fire.config.position.own.number("fire_threshold") = 7.3;
  fire.config.position.own.whole("fire_width") = 6;
  list.push_back(fire);
  Case factors{"factors", small_config("rope", "sink_window"), true};
  factors.config.kv_heads = 2;
  factors.config.attention.logn_base = 4;
  factors.config.attention.temperature = 0.7;
  factors.config.attention.floor_scale = 5;
  factors.config.attention.ssmax = true;
  factors.config.logit_softcap = 0.6;
  list.push_back(factors);
  Case capped{"capped", small_config("kerple_log", "window"), true};
  capped.config.attention.softcap = 0.5;
  capped.config.attention.temperature = 0.5;
  list.push_back(capped);
  Case relu{"relu", small_config("alibi", "sink_window"), true};
  relu.config.kv_heads = 2;
  relu.config.attention.normalizer = Normalizer::relu;
  relu.config.attention.relu_gamma = 0.6;
  relu.config.attention.ssmax = true;
  relu.config.attention.softcap = 0.9;
  list.push_back(relu);
  list.push_back({"full_xpos", small_config("xpos", "full"), true});
  Case full_t5{"full_t5", small_config("t5", "full"), false};
  full_t5.config.attention.logn_base = 4;
  list.push_back(full_t5);
  list.push_back({"full_kerple", small_config("kerple_log", "full"), true});
  Case shifted{"shifted_t5", small_config("t5", "shifted"), true};  // a key head that both halves read
  shifted.config.width = 24;
  shifted.config.heads = 6;
  shifted.config.kv_heads = 3;
  shifted.config.attention.block = 5;
  shifted.config.attention.ssmax = true;
  list.push_back(shifted);
  Case forget{"forget", small_config("alibi", "window"), true};
  forget.config.kv_heads = 2;
  forget.config.bias = false;  // the gate has its own all the same
  forget.config.attention.forget_gate = true;
  forget.config.attention.softcap = 0.9;
  forget.config.override[1] = small_config("none").layer(1);
  forget.config.override[1].attention.forget_gate = true;
  forget.config.override[1].attention.normalizer = Normalizer::relu;
  list.push_back(forget);
  Case forget_pieces = shifted;
  forget_pieces.name = "forget_shifted";
  forget_pieces.config.attention.forget_gate = true;
  list.push_back(forget_pieces);
  Case in_cache{"cache_positions", small_config("xpos", "sink_window"), true};
  in_cache.config.attention.cache_positions = true;
  list.push_back(in_cache);
  in_cache.name = "forget_cache_positions";
  in_cache.config.attention.forget_gate = true;
  list.push_back(in_cache);
  Case landmarks{"landmarks", landmark_config("kerple_log"), true};
  landmarks.config.kv_heads = 2;
  landmarks.config.attention.softcap = 0.9;
  landmarks.config.attention.ssmax = true;
  list.push_back(landmarks);
  return list;
}

class GradientTest : public ::testing::TestWithParam<Case> {};

TEST_P(GradientTest, EqualsCentralDifferencesAlongARandomDirectionOfEachParameter) {
  const Case& c = GetParam();
  SmallModel small(c.config, {.precision = Precision::fp64});
  const ModelBatch batch = small_batch(2, 19, c.config.vocab, c.documents, c.config.attention.sinks);
  constexpr double scale = 0.03;
  zero_gradients(small.model);
  small.model.train_step(batch, scale);
  for (const Parameter& parameter : small.model.trained()) {
    const std::vector<double> at = parameter.value.to_host<double>();
    const std::vector<double> gradient = parameter.gradient.to_host<double>();
    std::vector<double> direction(at.size());
    double slope = 0;
    double size = 0;
    for (std::size_t i = 0; i < at.size(); ++i) {
      direction[i] = std::sin(1.0 + 2.3 * static_cast<double>(i));
      slope += direction[i] * gradient[i];
      size += std::abs(direction[i] * gradient[i]);
    }
    constexpr double step = 1e-5;
    const auto loss_at = [&](double along) {
      std::vector<double> moved = at;
      for (std::size_t i = 0; i < at.size(); ++i) moved[i] += along * direction[i];
      set_values(parameter, moved);
      return scale * small.model.evaluate(batch).nll_sum();
    };
    const double difference = (loss_at(step) - loss_at(-step)) / (2 * step);
    set_values(parameter, at);
    EXPECT_NEAR(slope, difference, 1e-7 * size + 1e-9) << parameter.name;
  }
}

TEST_P(GradientTest, RecomputeGivesTheSameBits) {
  const Case& c = GetParam();
  const ModelBatch batch = small_batch(2, 19, c.config.vocab, c.documents, c.config.attention.sinks);
  SmallModel plain(c.config, {.precision = Precision::fp32});
  plain.model.train_step(batch, 0.1);
  for (const Recompute what : {Recompute::attention, Recompute::ffn, Recompute::layer}) {
    SmallModel replayed(c.config, {.precision = Precision::fp32, .recompute = what});
    replayed.model.train_step(batch, 0.1);
    EXPECT_EQ(host_values(plain.model.gradients()), host_values(replayed.model.gradients()));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GradientTest, ::testing::ValuesIn(cases()),
                         [](const auto& given) { return given.param.name; });

TEST(Gradients, AddUpOverMicroBatches) {
  const ModelConfig config = small_config();
  SmallModel small(config, {.precision = Precision::fp64});
  const ModelBatch batch = small_batch(1, 12, config.vocab, false);
  small.model.train_step(batch, 0.1);
  const auto once = host_values(small.model.gradients());
  small.model.train_step(batch, 0.1);
  const auto twice = host_values(small.model.gradients());
  for (std::size_t i = 0; i < once.size(); ++i) ASSERT_NEAR(twice[i], 2 * once[i], 1e-12);
  zero_gradients(small.model);
  EXPECT_EQ(small.backend->sum_of_squares(small.model.gradients()), 0.0);
}

TEST(Gradients, ARankWithoutTokensTakesPart) {
  SmallModel small(small_config(), {.precision = Precision::fp64});
  const LossResult result = small.model.train_step(ModelBatch{}, 1.0);
  EXPECT_EQ(result.nll_sum(), 0.0);
  EXPECT_EQ(small.backend->sum_of_squares(small.model.gradients()), 0.0);
}

TEST(Gradients, RecomputeHoldsLessMemory) {
  ModelConfig config = small_config();
  config.layers = 6;
  config.ffn_width = 4 * config.width;
  const ModelBatch batch = small_batch(2, 64, config.vocab, false);
  const auto peak = [&](Recompute what) {
    SmallModel small(config, {.precision = Precision::fp32, .recompute = what});
    small.model.train_step(batch, 1.0);
    small.backend->runtime().reset_peak();
    const std::size_t before = small.backend->runtime().memory().current;
    small.model.train_step(batch, 1.0);
    return static_cast<double>(small.backend->runtime().memory().peak - before);
  };
  const double none = peak(Recompute::none), attention = peak(Recompute::attention), ffn = peak(Recompute::ffn),
               layer = peak(Recompute::layer);
  EXPECT_LT(layer, none * 0.45);
  EXPECT_LT(attention, none * 0.8);
  EXPECT_LT(ffn, none * 0.8);
  EXPECT_LT(layer, attention);
  EXPECT_LT(layer, ffn);
}

}  // namespace
}  // namespace lexring
