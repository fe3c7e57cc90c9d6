#include "jobs/evaluation/series.h"
#include "jobs/launch/model_use.h"

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

Subject subject(const std::string& name, const std::string& kind, Scaling scaling = Scaling::none) {
  Subject one;
  one.name = name;
  one.options.train.length = 256;
  ModelConfig& model = one.options.model;
  model.vocab = 257;
  model.max_length = 256;
  model.position.kind = kind;
  model.position.scaling = scaling;
  model.position.original_length = 256;
  model.attention.block = 128;
  return one;
}

/// Keys as the command line gives them.
SeriesKeys keys(const std::vector<std::string>& words) {
  SeriesKeys keys;
  KeyTable table;
  table.add(series_keys(keys));
  keys.given = table.parse_arguments(words);
  return keys;
}

std::vector<std::string> names(const std::vector<std::string>& words, const std::vector<Subject>& subjects) {
  std::vector<std::string> all;
  for (const Series& series : plan_series(keys(words), subjects)) all.push_back(series.name);
  return all;
}

using Names = std::vector<std::string>;

TEST(Series, NamesTellOnlyWhatDiffers) {
  const Subject rope = subject("long_run", "rope"), xpos = subject("xpos", "xpos");
  EXPECT_EQ(names({}, {rope}), (Names{"causal", "blockwise"}));
  EXPECT_EQ(names({"--patterns", "sink_window"}, {rope}), (Names{"sink window"}));
  EXPECT_EQ(names({"--patterns", "causal,blockwise", "--attention.block", "64,128"}, {rope}),
            (Names{"causal", "blockwise 64", "blockwise 128"}));
  EXPECT_EQ(names({"--patterns", "window", "--attention.window", "128,256"}, {rope}),
            (Names{"window 128", "window 256"}));
  EXPECT_EQ(names({"--patterns", "causal", "--position.scaling", "none,yarn"}, {rope}), (Names{"rope", "rope (yarn)"}));
  EXPECT_EQ(names({"--patterns", "causal,window", "--position.scaling", "ntk,yarn"}, {rope}),
            (Names{"rope (ntk), causal", "rope (ntk), window", "rope (yarn), causal", "rope (yarn), window"}));
  EXPECT_EQ(names({"--patterns", "causal,window", "--attention.logn_base", "0,256"}, {rope}),
            (Names{"causal", "causal, log-n 256", "window", "window, log-n 256"}));
  // A run that is called after its positions says them once.
  EXPECT_EQ(names({"--patterns", "causal"}, {rope, xpos}), (Names{"long_run, rope", "xpos"}));
  EXPECT_EQ(names({"--patterns", "causal"}, {rope, subject("b", "rope")}), (Names{"long_run", "b"}));
}

TEST(Series, ScoresAreMultipliedAsGivenOrAsTrained) {
  Subject trained = subject("r", "rope");
  trained.options.model.attention.logn_base = 64;
  trained.options.model.attention.logn_clip = false;
  const auto own = plan_series(keys({"--patterns", "causal"}), {trained});
  EXPECT_EQ(own[0].attention.logn_base, 64);
  EXPECT_FALSE(own[0].attention.logn_clip);
  const auto given = plan_series(keys({"--patterns", "causal", "--attention.logn_base", "0,512",
                                       "--attention.temperature", "0.5", "--attention.floor_scale", "128"}),
                                 {trained});
  ASSERT_EQ(given.size(), 2u);
  EXPECT_EQ(given[0].attention.logn_base, 0);
  EXPECT_EQ(given[1].attention.logn_base, 512);
  EXPECT_EQ(describe(given[1].attention), "causal, log-n 512 also below it, temperature 0.5, floor scale 128 by 0.1");
  const auto clamped = plan_series(keys({"--patterns", "causal", "--attention.clamp", "-2"}), {subject("r", "rope")});
  EXPECT_EQ(describe(clamped[0].attention), "causal, clamped at -2");
  EXPECT_THROW(plan_series(keys({"--attention.logn_clip", "true"}), {subject("r", "rope")}), UsageError);
  EXPECT_THROW(plan_series(keys({"--attention.attn_scale", "1"}), {trained}), UsageError);
}

TEST(Series, CheckpointsAreToldApartByAsLittleAsIsNeeded) {
  EXPECT_EQ(checkpoint_names({"/a/rope/step-1", "/a/xpos/step-1"}), (Names{"rope", "xpos"}));
  EXPECT_EQ(checkpoint_names({"/a/rope/step-1", "/a/rope/step-2", "/a/xpos/step-1"}),
            (Names{"rope step-1", "rope step-2", "xpos"}));
  EXPECT_EQ(checkpoint_names({"/a/rope/step-1", "/b/rope/step-1"}), (Names{"/a/rope/step-1", "/b/rope/step-1"}));
}

TEST(Series, FactorsFollowTheLength) {
  const auto plan =
      plan_series(keys({"--patterns", "causal", "--position.scaling", "none,linear,ntk,yarn"}), {subject("r", "rope")});
  ASSERT_EQ(plan.size(), 4u);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(position_at(plan[i], 128).scaling_factor, 1);  // never squeezed
    EXPECT_EQ(position_at(plan[i], 4096).scaling_factor, 16);
    EXPECT_EQ(position_at(plan[i], 4096).original_length, 256);
    EXPECT_NE(describe_position(plan[i]).find("by length / 256"), std::string::npos);
  }
  EXPECT_EQ(position_at(plan[0], 4096), subject("r", "rope").options.model.position);

  const auto given = plan_series(
      keys({"--position.scaling", "yarn", "--position.scaling_factor", "8", "--position.original_length", "512"}),
      {subject("r", "rope")});
  EXPECT_EQ(position_at(given[0], 4096).scaling_factor, 8);
  EXPECT_EQ(position_at(given[0], 4096).original_length, 512);
  EXPECT_EQ(describe_position(given[0]), "rope, yarn by 8");
}

TEST(Series, ARescalingThatWasTrainedKeepsItsFactor) {
  Subject trained = subject("r", "rope", Scaling::linear);
  trained.options.model.position.scaling_factor = 4;
  for (const auto& words : {Names{}, Names{"--position.scaling", "linear,yarn"}}) {
    const auto plan = plan_series(keys(words), {trained});
    EXPECT_EQ(position_at(plan[0], 8192).scaling_factor, 4);
    EXPECT_EQ(position_at(plan.back(), 8192).scaling_factor, words.empty() ? 4 : 32);
  }
}

TEST(Series, SizesAreTheCheckpointsUnlessGiven) {
  const auto plan = plan_series(keys({"--patterns", "causal,blockwise,window,sink_window"}), {subject("r", "rope")});
  EXPECT_EQ(plan[1].attention.block, 128);
  EXPECT_EQ(plan[2].attention.window, 256);
  EXPECT_EQ(plan[2].attention.sinks, 0);
  EXPECT_EQ(plan[3].attention.sinks, 4);
  EXPECT_EQ(describe(plan[3].attention), "window of 256 and 4 sinks");
}

TEST(Series, KeysWithoutEffectAreRefusedByName) {
  const auto says = [](const Names& words, const std::vector<Subject>& subjects) {
    return error_of([&] { plan_series(keys(words), subjects); });
  };
  const Subject rope = subject("r", "rope"), alibi = subject("a", "alibi");
  expect_says(says({"--patterns", "causal", "--attention.block", "64"}, {rope}), "attention.block", "blockwise");
  expect_says(says({"--patterns", "blockwise", "--attention.window", "64"}, {rope}), "attention.window", "sink_window");
  expect_says(says({"--patterns", "window", "--attention.sinks", "4"}, {rope}), "attention.sinks", "sink_window");
  expect_says(says({"--position.scaling", "yarn"}, {alibi}), "position.scaling has",
              "alibi positions have no rotary angles");
  expect_says(says({"--position.scaling_factor", "4"}, {rope}), "position.scaling_factor",
              "linear, ntk, yarn, repeat, dynamic, llama3 or longrope");
  expect_says(says({"--position.original_length", "128"}, {rope}), "position.original_length",
              "yarn, modulo, dynamic, llama3 or longrope");
  expect_says(says({"--position.scaling", "linear", "--position.beta_fast", "16"}, {rope}), "position.beta_fast",
              "yarn");
  expect_says(says({"--position.scaling", "yarn", "--position.scaling_factor", "-1"}, {rope}),
              "position.scaling_factor = -1");
  expect_says(says({"--attention.block", "0"}, {rope}), "attention.block = 0 is impossible", "at least 1");
  // Of two checkpoints one may lack the angles: it is measured as it is.
  EXPECT_EQ(names({"--patterns", "causal", "--position.scaling", "none,yarn"}, {rope, alibi}),
            (Names{"r, rope", "r, rope (yarn)", "a, alibi"}));
}

}  // namespace
}  // namespace lexring::testing
