#include "models/patterns.h"
#include "models/config_check.h"
#include "models/head_pieces.h"

#include <array>

#include <gtest/gtest.h>

#include "tests/models/model_testing.h"

namespace lexring {
namespace {

AttentionConfig pattern(const std::string& name, std::int64_t window, std::int64_t block, std::int64_t sinks) {
  AttentionConfig config;
  config.pattern = name;
  config.window = window;
  config.block = block;
  config.sinks = sinks;
  return config;
}

TEST(Patterns, FirstVisiblePositions) {
  EXPECT_EQ(make_pattern(pattern("causal", 0, 0, 0))->first_visible(100), 0);
  EXPECT_EQ(make_pattern(pattern("window", 8, 0, 0))->first_visible(100), 93);
  EXPECT_EQ(make_pattern(pattern("blockwise", 0, 16, 0))->first_visible(100), 80);
  EXPECT_EQ(make_pattern(pattern("blockwise", 0, 16, 0))->first_visible(111), 80);
  EXPECT_EQ(make_pattern(pattern("chunked", 0, 16, 0))->first_visible(95), 80);
  EXPECT_EQ(make_pattern(pattern("chunked", 0, 16, 0))->first_visible(96), 96);
  EXPECT_EQ(make_pattern(pattern("sink_window", 8, 0, 4))->first_visible(100), 93);
  const auto shifted = make_pattern(pattern("shifted", 0, 5, 0)), later = shifted->of_later_heads();
  EXPECT_EQ(shifted->first_visible(4), 0);
  EXPECT_EQ(shifted->first_visible(5), 5);
  EXPECT_EQ(later->first_visible(1), 0);  // the first block has 2 positions
  EXPECT_EQ(later->first_visible(2), 2);
  EXPECT_EQ(later->first_visible(6), 2);
  EXPECT_EQ(later->first_visible(7), 7);
}

TEST(Patterns, NeverBeyondTheDocument) {
  TokenTable tokens = dense_tokens(1, 3);
  tokens.position = {100, 101, 110};
  const std::vector<DocumentPlace> places = {{99, 101}, {99, 101}, {110, 112}};
  const Visibility window = make_pattern(pattern("window", 5, 0, 0))->visibility(tokens, places);
  EXPECT_EQ(window.first, (std::vector<std::int64_t>{99, 99, 110}));
  EXPECT_TRUE(window.sink_begin.empty());
  const Visibility sinks = make_pattern(pattern("sink_window", 1, 0, 2))->visibility(tokens, places);
  EXPECT_EQ(sinks.first, (std::vector<std::int64_t>{100, 101, 110}));
  EXPECT_EQ(sinks.sink_begin, (std::vector<std::int64_t>{99, 99, 110}));
  EXPECT_EQ(sinks.sink_end, (std::vector<std::int64_t>{101, 101, 112}));
  EXPECT_TRUE(sinks.end.empty());
  const Visibility full =
      make_pattern(pattern("full", 0, 0, 0))->visibility(tokens, {{99, 0, 102}, {99, 0, 102}, {110, 0, 111}});
  EXPECT_EQ(full.first, (std::vector<std::int64_t>{99, 99, 110}));
  EXPECT_EQ(full.end, (std::vector<std::int64_t>{102, 102, 111}));
}

/// Where windows and blocks begin goes by coordinates; which keys come before it, by tokens.
TEST(Patterns, CoordinatesSayWhereAPatternBegins) {
  TokenTable tokens = dense_tokens(2, 4);
  tokens.coordinate = {-2.5, -0.5, 1.5, 3.75, 0.0, 2.0, 4.0, 6.5};
  const auto first = [&](const AttentionConfig& config, std::int64_t start = 0) {
    return make_pattern(config)->visibility(tokens, std::vector<DocumentPlace>(8, {start, start})).first;
  };
  using Positions = std::vector<std::int64_t>;
  EXPECT_EQ(first(pattern("causal", 0, 0, 0)), Positions(8, 0));
  EXPECT_EQ(first(pattern("window", 4, 0, 0)), (Positions{0, 0, 1, 2, 0, 0, 1, 2}));  // 1.5 - -2.5 is a whole window
  EXPECT_EQ(first(pattern("blockwise", 0, 2, 0)), (Positions{0, 0, 1, 2, 0, 0, 1, 2}));
  EXPECT_EQ(first(pattern("chunked", 0, 2, 0)), (Positions{0, 1, 2, 3, 0, 1, 2, 3}));
  EXPECT_EQ(first(pattern("window", 4, 0, 0), 2), (Positions{2, 2, 2, 2, 2, 2, 2, 2}));
}

TEST(Patterns, HalvesOfTheHeadsAreCutWhereKeyHeadsAllow) {
  const auto pieces = [](std::int64_t heads, std::int64_t kv_heads, std::int64_t border) {
    std::vector<std::array<std::int64_t, 4>> all;
    AttentionForm form;
    form.heads = heads, form.kv_heads = kv_heads, form.head_width = 2;
    for (const HeadShare& p : head_pieces(form, border)) all.push_back({p.first, p.heads, p.kv_first, p.kv_heads});
    return all;
  };
  using Pieces = std::vector<std::array<std::int64_t, 4>>;
  EXPECT_EQ(pieces(4, 4, 2), (Pieces{{0, 2, 0, 2}, {2, 2, 2, 2}}));
  EXPECT_EQ(pieces(6, 3, 3), (Pieces{{0, 2, 0, 1}, {2, 1, 1, 1}, {3, 1, 1, 1}, {4, 2, 2, 1}}));
  EXPECT_EQ(pieces(4, 1, 2), (Pieces{{0, 2, 0, 1}, {2, 2, 0, 1}}));
  for (const std::int64_t border : {-4, 0, 4, 9}) EXPECT_EQ(pieces(4, 2, border), (Pieces{{0, 4, 0, 2}}));
}

TEST(Patterns, WhatACacheKeeps) {
  const CacheKeep halo = make_pattern(pattern("blockwise", 0, 16, 0))->keep(100, {0, 0});
  EXPECT_EQ(halo.first, 80);
  EXPECT_EQ(halo.sinks_end, halo.sinks_begin);
  const CacheKeep sinks = make_pattern(pattern("sink_window", 8, 0, 4))->keep(100, {40, 44});
  EXPECT_EQ(sinks.sinks_begin, 40);
  EXPECT_EQ(sinks.sinks_end, 44);
  EXPECT_EQ(sinks.first, 93);
  EXPECT_EQ(make_pattern(pattern("causal", 0, 0, 0))->keep(100, {40, 0}).first, 40);
}

TEST(Patterns, RefusesWhatMakesNoSense) {
  EXPECT_THROW(make_pattern(pattern("window", 0, 0, 0)), UsageError);
  EXPECT_THROW(make_pattern(pattern("blockwise", 0, 0, 0)), UsageError);
  EXPECT_THROW(make_pattern(pattern("chunked", 0, 0, 0)), UsageError);
  EXPECT_THROW(make_pattern(pattern("sink_window", 4, 0, 0)), UsageError);
  EXPECT_THROW(pattern("strided", 4, 4, 4), UsageError);
}

std::string refusal(const ModelConfig& config) {
  try {
    check(config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(ModelConfigCheck, NamesKeyValueAndWhatWouldWork) {
  EXPECT_EQ(refusal(small_config()), "");
  ModelConfig config = small_config();
  config.heads = 3;
  EXPECT_EQ(
      refusal(config),
      "model.heads = 3 does not divide model.width = 16; choose one of 1, 2, 4, 8, 16, or give a model.head_width "
      "of its own");
  config.kv_heads = 3;
  config.head_width = 6;
  EXPECT_EQ(refusal(config), "");
  config.head_width = 7;
  EXPECT_EQ(refusal(config), "model.head_width = 7 is odd, but channels come in pairs; choose an even one");
  config = small_config();
  config.kv_heads = 3;
  EXPECT_EQ(refusal(config), "model.kv_heads = 3 does not divide model.heads = 4; choose one of 1, 2, 4");
  config = small_config();
  config.heads = config.kv_heads = 16;
  EXPECT_NE(refusal(config).find("is odd"), std::string::npos);
  config = small_config();
  config.vocab = 0;
  EXPECT_EQ(refusal(config), "model.vocab = 0 is not positive; choose at least 1");
  config = small_config();
  config.attention.pattern = "blockwise";
  config.attention.block = 0;
  EXPECT_NE(refusal(config).find("attention.block = 0"), std::string::npos);
  config = landmark_config();
  EXPECT_EQ(refusal(config), "");
  config.attention.landmark_token = 5;
  EXPECT_EQ(refusal(config),
            "attention.landmark_token = 5 is not in the vocabulary of 5; choose the id of the landmark");
  config = landmark_config();
  config.attention.forget_gate = true;
  EXPECT_EQ(refusal(config).find("attention.forget_gate = true with attention.normalizer = landmark"), 0U);
  config.attention.landmark_every = 0;
  EXPECT_EQ(refusal(config).find("attention.landmark_every = 0"), 0U);
  config.attention.pattern = "window";
  EXPECT_EQ(refusal(config).find("attention.normalizer = landmark with attention.pattern = window"), 0U);
  config = landmark_config();
  config.override[1] = {config.position, config.attention};
  EXPECT_EQ(refusal(config), "");
  config.override[1].attention.landmark_every = 5;
  EXPECT_NE(refusal(config).find("so give them the same attention.landmark_every"), std::string::npos);
}

}  // namespace
}  // namespace lexring
