#include "models/transformer.h"

#include <cmath>

#include <gtest/gtest.h>

#include "models/batch.h"
#include "models/weights.h"
#include "tests/models/model_testing.h"

namespace lexring {
namespace {

TEST(Transformer, ParametersHaveTheReferencesNamesAndShapes) {
  ModelConfig config = small_config("learned");
  config.sub_norm = true;
  config.ffn = Ffn::swiglu;
  config.tied = false;
  config.kv_heads = 2;
  config.layers = 1;
  config.attention.forget_gate = true;
  SmallModel small(config, {});
  const std::vector<std::string> expected = {"embedding [23, 16]",
                                             "position.learned [128, 16]",
                                             "layers.0.attention.norm.weight [16]",
                                             "layers.0.attention.norm.bias [16]",
                                             "layers.0.attention.query.weight [16, 16]",
                                             "layers.0.attention.query.bias [16]",
                                             "layers.0.attention.key.weight [8, 16]",
                                             "layers.0.attention.key.bias [8]",
                                             "layers.0.attention.value.weight [8, 16]",
                                             "layers.0.attention.value.bias [8]",
                                             "layers.0.attention.forget.weight [4, 16]",
                                             "layers.0.attention.forget.bias [4]",
                                             "layers.0.attention.sub_norm.weight [16]",
                                             "layers.0.attention.sub_norm.bias [16]",
                                             "layers.0.attention.output.weight [16, 16]",
                                             "layers.0.attention.output.bias [16]",
                                             "layers.0.ffn.norm.weight [16]",
                                             "layers.0.ffn.norm.bias [16]",
                                             "layers.0.ffn.gate.weight [24, 16]",
                                             "layers.0.ffn.gate.bias [24]",
                                             "layers.0.ffn.up.weight [24, 16]",
                                             "layers.0.ffn.up.bias [24]",
                                             "layers.0.ffn.sub_norm.weight [24]",
                                             "layers.0.ffn.sub_norm.bias [24]",
                                             "layers.0.ffn.down.weight [16, 24]",
                                             "layers.0.ffn.down.bias [16]",
                                             "norm.weight [16]",
                                             "norm.bias [16]",
                                             "output [23, 16]"};
  std::vector<std::string> found;
  std::int64_t count = 0;
  for (const Parameter& parameter : small.model.parameters()) {
    found.push_back(parameter.name + " " + to_string(parameter.full_shape));
    count += parameter.value.elements();
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(small.model.parameter_count(), count);
  EXPECT_EQ(small.model.gradients().shape().size(), 1U);
}

TEST(Transformer, InitialValuesDependOnNameAndIndexNotOnTheLayout) {
  // Gate and up are one fused array in one model; up stands alone in the other. Key heads differ, too.
  ModelConfig gated = small_config();
  gated.ffn = Ffn::swiglu;
  gated.kv_heads = 2;
  SmallModel one(gated, {});
  SmallModel two(small_config(), {});
  one.model.initialise(5);
  two.model.initialise(5);
  const auto values = [](Transformer& model, const std::string& name) {
    for (const Parameter& parameter : model.parameters()) {
      if (parameter.name == name) return host_values(parameter.value);
    }
    return std::vector<double>();
  };
  for (const char* name :
       {"embedding", "layers.1.attention.query.weight", "layers.0.ffn.up.weight", "layers.1.ffn.down.weight"}) {
    EXPECT_EQ(values(one.model, name), values(two.model, name)) << name;
    EXPECT_FALSE(values(one.model, name).empty()) << name;
  }
  EXPECT_EQ(values(one.model, "norm.weight"), std::vector<double>(16, 1.0));
  EXPECT_EQ(values(one.model, "norm.bias"), std::vector<double>(16, 0.0));
  double squares = 0;
  for (const double x : values(two.model, "layers.1.ffn.down.weight")) squares += x * x;
  EXPECT_NEAR(std::sqrt(squares / (16 * 24)), 0.02 / std::sqrt(4.0), 0.002);
}

TEST(Transformer, AForgetGateNeedsACausalPattern) {
  ModelConfig config = small_config("rope");
  config.attention.forget_gate = true;
  SmallModel small(config, {});
  AttentionConfig full = config.attention;
  full.pattern = "full";
  EXPECT_THROW(small.model.set_attention(full), UsageError);
  config.attention = full;
  EXPECT_THROW(SmallModel(config, {}), UsageError);
}

/// In blocks that hold all of the text, each piece of the heads sees what causal attention does.
TEST(Transformer, PiecesOfHeadsHaveTheirOwnForgetGates) {
  ModelConfig causal = small_config("none"), shifted = small_config("none", "shifted");
  causal.attention.forget_gate = shifted.attention.forget_gate = true;
  shifted.attention.block = 100;
  const ModelBatch batch = small_batch(1, 30, causal.vocab, true);
  EXPECT_NEAR(SmallModel(shifted, {.precision = Precision::fp64}).model.evaluate(batch).nll_sum(),
              SmallModel(causal, {.precision = Precision::fp64}).model.evaluate(batch).nll_sum(), 1e-11);
}

TEST(Transformer, AFreshModelGuessesUniformly) {
  const ModelConfig config = small_config();
  SmallModel small(config, {});
  small.model.initialise(1);
  const ModelBatch batch = small_batch(2, 30, config.vocab, false);
  double counted = 0;
  for (const std::int32_t target : batch.targets) counted += target >= 0 ? 1 : 0;
  EXPECT_NEAR(small.model.evaluate(batch).nll_sum() / counted, std::log(23.0), 0.05);
}

TEST(Transformer, SetAttentionChangesOnlyWhatIsSeen) {
  const ModelConfig config = small_config("xpos", "causal");
  SmallModel causal(config, {.precision = Precision::fp64});
  SmallModel blockwise(small_config("xpos", "blockwise"), {.precision = Precision::fp64});
  const ModelBatch batch = small_batch(1, 30, config.vocab, false);
  EXPECT_NE(causal.model.evaluate(batch).nll_sum(), blockwise.model.evaluate(batch).nll_sum());
  causal.model.set_attention(blockwise.model.config().attention);
  EXPECT_EQ(causal.model.evaluate(batch).nll_sum(), blockwise.model.evaluate(batch).nll_sum());
  AttentionConfig broken;
  broken.pattern = "blockwise";
  EXPECT_THROW(causal.model.set_attention(broken), UsageError);
}

TEST(Transformer, SetPositionRescalesAngles) {
  const ModelBatch batch = small_batch(1, 30, small_config().vocab, false);
  for (const char* kind : {"rope", "xpos"}) {
    ModelConfig config = small_config(kind);
    SmallModel model(config, {.precision = Precision::fp64});
    const double plain = model.model.evaluate(batch).nll_sum();
    for (const Scaling scaling : {Scaling::linear, Scaling::ntk, Scaling::yarn}) {
      config.position.scaling = scaling;
      config.position.scaling_factor = 4;
      config.position.original_length = 8;
      SmallModel scaled(config, {.precision = Precision::fp64});
      model.model.set_position(config.position);
      EXPECT_EQ(model.model.evaluate(batch).nll_sum(), scaled.model.evaluate(batch).nll_sum())
          << kind << " " << name_of(scaling);
      EXPECT_NE(model.model.evaluate(batch).nll_sum(), plain) << kind << " " << name_of(scaling);
    }
    model.model.set_position(small_config(kind).position);
    EXPECT_EQ(model.model.evaluate(batch).nll_sum(), plain);
    EXPECT_THROW(model.model.set_position(small_config("learned").position), UsageError);
  }
}

TEST(Transformer, RefusesTokensOutsideItsVocabularyAndPositionsOutsideItsTable) {
  ModelConfig config = small_config("learned");
  config.max_length = 8;
  SmallModel small(config, {});
  EXPECT_NO_THROW(small.model.evaluate(small_batch(1, 8, config.vocab, false)));
  try {
    small.model.evaluate(small_batch(1, 9, config.vocab, false));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("evaluate at lengths up to 8"), std::string::npos) << error.what();
  }
  ModelBatch batch = small_batch(1, 8, config.vocab, false);
  batch.ids[3] = 23;
  EXPECT_THROW(small.model.evaluate(batch), Error);
  batch.ids[3] = 0;
  batch.targets[3] = 23;
  EXPECT_THROW(small.model.evaluate(batch), Error);
}

TEST(Transformer, RefusesPrecisionsTheDeviceLacks) {
  const Context context;
  const auto backend = make_reference_backend();
  EXPECT_THROW(Transformer(small_config(), {.precision = Precision::bf16}, context, *backend), UsageError);
  EXPECT_THROW(Transformer(small_config(), {.precision = Precision::fp32, .residual = Dtype::bf16}, context, *backend),
               UsageError);
}

TEST(Transformer, RefusesFactorsThatCannotBe) {
  const auto refusal = [](void (*change)(AttentionConfig&)) -> std::string {
    ModelConfig config = small_config();
    change(config.attention);
    try {
      SmallModel(config, {});
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  const auto expect = [&](void (*change)(AttentionConfig&), const std::string& message) {
    EXPECT_NE(refusal(change).find(message), std::string::npos) << refusal(change);
  };
  expect([](AttentionConfig& a) { a.logn_base = 1; }, "attention.logn_base = 1 has a logarithm of 0");
  expect([](AttentionConfig& a) { a.logn_clip = false; }, "only with attention.logn_base above 0");
  expect([](AttentionConfig& a) { a.temperature = 0; }, "attention.temperature = 0 is not positive");
  expect([](AttentionConfig& a) { a.attn_scale = 0.5; }, "only with attention.floor_scale above 0");
  EXPECT_EQ(refusal([](AttentionConfig& a) { a.logn_base = 2, a.logn_clip = false; }), "");
}

TEST(Transformer, FlopsAreCountedByWhatTheMaskLeaves) {
  ModelConfig config = small_config("none", "causal");
  SmallModel small(config, {});
  const ModelBatch batch = small_batch(1, 10, config.vocab, false);
  const double matrices = 23 * 16 + 2 * (4 * 16 * 16 + 2 * 16 * 24);
  EXPECT_DOUBLE_EQ(small.model.step_flops(batch), 6 * matrices * 10 + 12 * 16 * 2 * 55.0);
  AttentionConfig window = config.attention;
  window.pattern = "window";
  window.window = 3;
  small.model.set_attention(window);
  EXPECT_DOUBLE_EQ(small.model.step_flops(batch), 6 * matrices * 10 + 12 * 16 * 2 * (1 + 2 + 8 * 3.0));
  window.pattern = "sink_window";
  window.sinks = 2;
  small.model.set_attention(window);
  EXPECT_DOUBLE_EQ(small.model.step_flops(batch), 6 * matrices * 10 + 12 * 16 * 2 * (1 + 2 + 3 + 4 + 6 * 5.0));
}

TEST(Transformer, WhatWasMadeOfOneBatchDoesNotServeAnother) {
  const ModelConfig config = small_config("xpos", "blockwise");
  SmallModel used(config, {.precision = Precision::fp64});
  for (const ModelBatch& batch : {small_batch(2, 29, config.vocab, false), small_batch(2, 29, config.vocab, true),
                                  small_batch(2, 29, config.vocab, false), small_batch(3, 11, config.vocab, true)}) {
    SmallModel fresh(config, {.precision = Precision::fp64});
    EXPECT_EQ(host_values(used.model.evaluate(batch).nll), host_values(fresh.model.evaluate(batch).nll));
  }
}

TEST(Transformer, TheProbeSeesEveryLayer) {
  const ModelConfig config = small_config();
  SmallModel small(config, {});
  std::vector<std::int64_t> layers;
  small.model.evaluate(small_batch(1, 5, config.vocab, false), nullptr,
                       [&](std::int64_t layer, const AttentionForm& form, const ScoreBias&, const SharedRows& rows,
                           const Columns& q, const Columns& k) {
                         layers.push_back(layer);
                         EXPECT_EQ(form.heads, 4);
                         EXPECT_EQ(rows->tokens.rows(), 5);
                         EXPECT_TRUE(rows->rotary.cosine.defined());
                         EXPECT_EQ(q.width + k.width, 32);
                       });
  EXPECT_EQ(layers, (std::vector<std::int64_t>{0, 1}));
}

TEST(TensorParallel, RanksThatCannotShareAModelAreRefusedWithWhatWould) {
  const auto refusal = [](std::int64_t heads, std::int64_t kv_heads, std::int64_t ffn_width, int ranks) -> std::string {
    ModelConfig config = small_config();
    config.heads = heads;
    config.kv_heads = kv_heads;
    config.ffn_width = ffn_width;
    try {
      check_tensor_parallel(config, ranks);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(16, 16, 48, 3), "mesh.tp = 3 does not divide model.heads = 16; choose one of 1, 2, 4, 8, 16");
  EXPECT_EQ(refusal(16, 16, 20, 8), "mesh.tp = 8 does not divide model.ffn_width = 20; choose one of 1, 2, 4");
  EXPECT_EQ(refusal(12, 4, 48, 6),
            "mesh.tp = 6 neither divides model.kv_heads = 4 nor is a multiple of it; choose one of 1, 2, 4, 12");
  EXPECT_EQ(refusal(8, 2, 24, 4), "");
  EXPECT_EQ(refusal(8, 8, 24, 8), "");
}

}  // namespace
}  // namespace lexring
