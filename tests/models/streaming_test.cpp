// A sequence evaluated chunk by chunk over a cache has the losses of the whole.
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/models/model_testing.h"

namespace lexring {
namespace {

constexpr std::int64_t length = 60;

struct Case {
  std::string pattern;
  std::string position;
  bool documents;
  std::int64_t chunk;
};

/// Rows [first, first + count) of a one-sequence batch, at their global positions.
ModelBatch part(const ModelBatch& whole, std::int64_t first, std::int64_t count) {
  const auto cut = [&](const auto& values) {
    using Values = std::decay_t<decltype(values)>;
    return values.empty() ? Values() : Values(values.begin() + first, values.begin() + first + count);
  };
  ModelBatch batch;
  batch.tokens.sequences = {{0, 0, count}};
  batch.tokens.position = cut(whole.tokens.position);
  batch.ids = cut(whole.ids);
  batch.targets = cut(whole.targets);
  batch.document_start = cut(whole.document_start);
  batch.sink_end = cut(whole.sink_end);
  return batch;
}

class StreamingTest : public ::testing::TestWithParam<Case> {};

TEST_P(StreamingTest, ChunksHaveTheLossesOfTheWhole) {
  const Case& c = GetParam();
  const ModelConfig config = small_config(c.position, c.pattern);
  SmallModel small(config, {.precision = Precision::fp64});
  const ModelBatch whole = small_batch(1, length, config.vocab, c.documents, config.attention.sinks);
  const auto expected = small.model.evaluate(whole).nll.to_host<double>();
  const auto cache = small.model.make_cache();
  std::vector<double> streamed;
  for (std::int64_t first = 0; first < length; first += c.chunk) {
    const auto nll =
        small.model.evaluate(part(whole, first, std::min(c.chunk, length - first)), cache.get()).nll.to_host<double>();
    streamed.insert(streamed.end(), nll.begin(), nll.end());
  }
  ASSERT_EQ(streamed.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(streamed[i], expected[i], 1e-11) << "row " << i;
  if (c.pattern != "causal") {
    EXPECT_LT(cache->kinds.at(0).rows()->tokens.rows(), length);
  }
}

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const char* pattern : {"causal", "window", "blockwise", "chunked", "sink_window"}) {
    for (const std::int64_t chunk : {1, 7, 12, 25}) {
      for (const bool documents : {false, true}) list.push_back({pattern, "xpos", documents, chunk});
    }
    list.push_back({pattern, "alibi", false, 7});
    list.push_back({pattern, "sinusoidal", false, 7});
    list.push_back({pattern, "learned", false, 7});
    list.push_back({pattern, "sandwich", false, 7});
    list.push_back({pattern, "kerple_log", false, 7});
    list.push_back({pattern, "fire", false, 7});
  }
  return list;
}

INSTANTIATE_TEST_SUITE_P(Patterns, StreamingTest, ::testing::ValuesIn(cases()), [](const auto& given) {
  return given.param.pattern + "_" + given.param.position + (given.param.documents ? "_documents_" : "_") +
         std::to_string(given.param.chunk);
});

TEST(Streaming, DistancesWithinTheCacheAreThoseOfTheWhole) {
  for (const char* position : {"rope", "xpos", "alibi", "t5"}) {
    for (const bool documents : {false, true}) {
      ModelConfig config = small_config(position, "sink_window");
      config.attention.cache_positions = true;
      config.attention.ssmax = true;
      SmallModel small(config, {.precision = Precision::fp64});
      const ModelBatch whole = small_batch(1, length, config.vocab, documents, config.attention.sinks);
      const auto expected = small.model.evaluate(whole).nll.to_host<double>();
      for (const std::int64_t chunk : {1, 7}) {
        const auto cache = small.model.make_cache();
        for (std::int64_t n = 0; n < length; n += chunk) {
          const std::int64_t rows = std::min(chunk, length - n);
          const auto nll = small.model.evaluate(part(whole, n, rows), cache.get()).nll.to_host<double>();
          for (std::size_t i = 0; i < nll.size(); ++i)
            EXPECT_NEAR(nll[i], expected[static_cast<std::size_t>(n) + i], 1e-11) << position << " row " << n;
        }
        EXPECT_LT(cache->kinds.at(0).rows()->tokens.rows(), length);
      }
    }
  }
}

/// A text that goes on beyond what the cache holds has the same distances ever after: where tokens repeat, losses do.
TEST(Streaming, AFullCacheHasOnePlaceForTheQuery) {
  ModelConfig config = small_config("rope", "sink_window");
  config.layers = 1;
  const auto losses = [&](bool in_cache) {
    config.attention.cache_positions = in_cache;
    SmallModel small(config, {.precision = Precision::fp64});
    ModelBatch batch = small_batch(1, length, config.vocab, false, config.attention.sinks);
    for (std::size_t n = 2; n < batch.ids.size(); ++n) batch.ids[n] = batch.targets[n] = 3;
    return small.model.evaluate(batch).nll.to_host<double>();
  };
  const auto in_cache = losses(true), in_text = losses(false);
  EXPECT_NEAR(in_cache[20], in_cache[59], 1e-12);
  EXPECT_GT(std::abs(in_text[20] - in_text[59]), 1e-6);
  EXPECT_NEAR(in_cache[8], in_text[8], 1e-12);  // sinks and window are all of it so far
}

TEST(Streaming, BlocksAreFoundByTheLandmarksOfEarlierChunks) {
  for (const bool documents : {false, true}) {
    const ModelConfig config = landmark_config("xpos");
    SmallModel small(config, {.precision = Precision::fp64});
    const ModelBatch whole = small_batch(1, length, config.vocab, documents);
    const auto expected = small.model.evaluate(whole).nll.to_host<double>();
    for (const std::int64_t chunk : {1, 7}) {
      const auto cache = small.model.make_cache();
      for (std::int64_t n = 0; n < length; n += chunk) {
        const std::int64_t rows = std::min(chunk, length - n);
        const auto nll = small.model.evaluate(part(whole, n, rows), cache.get()).nll.to_host<double>();
        for (std::size_t i = 0; i < nll.size(); ++i)
          EXPECT_NEAR(nll[i], expected[static_cast<std::size_t>(n) + i], 1e-11) << "row " << n;
      }
    }
  }
}

TEST(Streaming, PlacesInACacheNeedEveryToken) {
  ModelConfig config = small_config("rope", "sink_window");
  config.attention.cache_positions = true;
  SmallModel small(config, {.precision = Precision::fp64});
  const ModelBatch whole = small_batch(1, length, config.vocab, false);
  const auto cache = small.model.make_cache();
  small.model.evaluate(part(whole, 0, 10), cache.get());
  EXPECT_THROW(small.model.evaluate(part(whole, 11, 4), cache.get()), Error);
}

TEST(Streaming, FactorsOnQueriesAreThoseOfTheWhole) {
  for (const char* pattern : {"causal", "window", "sink_window"}) {
    ModelConfig config = small_config("rope", pattern);
    config.attention.logn_base = 4;
    config.attention.floor_scale = 5;
    config.attention.ssmax = true;
    config.logit_softcap = 0.6;
    SmallModel small(config, {.precision = Precision::fp64});
    const ModelBatch whole = small_batch(1, length, config.vocab, true, config.attention.sinks);
    const auto expected = small.model.evaluate(whole).nll.to_host<double>();
    const auto cache = small.model.make_cache();
    for (std::int64_t n = 0; n < length; n += 6) {
      const auto nll = small.model.evaluate(part(whole, n, 6), cache.get()).nll.to_host<double>();
      for (std::size_t i = 0; i < nll.size(); ++i)
        EXPECT_NEAR(nll[i], expected[static_cast<std::size_t>(n) + i], 1e-11) << pattern << " row " << n;
    }
  }
}

TEST(Streaming, AForgetGateGoesOnWhereTheChunkBeforeEnded) {
  for (const char* pattern : {"causal", "window", "chunked", "sink_window"}) {
    ModelConfig config = small_config("rope", pattern);
    config.attention.forget_gate = true;
    config.override[1] = small_config("alibi", "window").layer(1);
    config.attention.window = 1;  // of the window itself nothing is kept
    config.attention.cache_positions = config.attention.pattern->sinks;
    SmallModel small(config, {.precision = Precision::fp64});
    const ModelBatch whole = small_batch(1, length, config.vocab, true, config.attention.sinks);
    const auto expected = small.model.evaluate(whole).nll.to_host<double>();
    for (const std::int64_t chunk : {1, 7}) {
      const auto cache = small.model.make_cache();
      for (std::int64_t n = 0; n < length; n += chunk) {
        const std::int64_t rows = std::min(chunk, length - n);
        const auto nll = small.model.evaluate(part(whole, n, rows), cache.get()).nll.to_host<double>();
        for (std::size_t i = 0; i < nll.size(); ++i)
          EXPECT_NEAR(nll[i], expected[static_cast<std::size_t>(n) + i], 1e-11) << pattern << " row " << n;
      }
    }
  }
}

TEST(Streaming, CapClampAndReluAreThoseOfTheWhole) {
  for (const Normalizer normalizer : {Normalizer::softmax, Normalizer::relu}) {
    for (const char* pattern : {"causal", "sink_window"}) {
      ModelConfig config = small_config("alibi", pattern);
      config.attention.softcap = 0.7;
      const auto losses = [&](std::int64_t chunk, double least) {
        config.attention.normalizer = normalizer;
        config.attention.clamp = least;
        SmallModel small(config, {.precision = Precision::fp64});
        const ModelBatch whole = small_batch(1, length, config.vocab, true, config.attention.sinks);
        const auto cache = chunk < length ? small.model.make_cache() : nullptr;
        std::vector<double> all;
        for (std::int64_t n = 0; n < length; n += chunk) {
          const auto nll = small.model.evaluate(part(whole, n, chunk), cache.get()).nll.to_host<double>();
          all.insert(all.end(), nll.begin(), nll.end());
        }
        return all;
      };
      const double clamp = normalizer == Normalizer::relu ? 0.05 : -0.05;
      const std::vector<double> expected = losses(length, clamp), streamed = losses(6, clamp);
      EXPECT_NE(expected, losses(length, AttentionConfig::no_clamp)) << "the clamp does something";
      for (std::size_t i = 0; i < expected.size(); ++i)
        EXPECT_NEAR(streamed[i], expected[i], 1e-11) << name_of(normalizer) << " " << pattern << " row " << i;
    }
  }
}

TEST(Streaming, SinksAreFoundAtExplicitPositionsToo) {
  const ModelConfig config = small_config("rope", "sink_window");
  SmallModel small(config, {.precision = Precision::fp64});
  ModelBatch whole = small_batch(1, length, config.vocab, false);
  for (std::size_t n = 0; n < whole.tokens.position.size(); ++n)
    whole.tokens.position[n] = 1000 + static_cast<std::int64_t>(n * n % 3 + 3 * n);
  const auto expected = small.model.evaluate(whole).nll.to_host<double>();
  const auto cache = small.model.make_cache();
  for (std::int64_t n = 0; n < length; ++n) {
    EXPECT_NEAR(small.model.evaluate(part(whole, n, 1), cache.get()).nll.to_host<double>()[0],
                expected[static_cast<std::size_t>(n)], 1e-11);
  }
}

TEST(Streaming, LastLogitsOfAChunkAreThoseOfTheWhole) {
  const ModelConfig config = small_config("xpos", "blockwise");
  SmallModel small(config, {.precision = Precision::fp64});
  const ModelBatch whole = small_batch(1, length, config.vocab, false);
  const auto expected = small.model.logits(whole, Transformer::Rows::last).to_host<double>();
  const auto all = small.model.logits(whole, Transformer::Rows::all).to_host<double>();
  EXPECT_EQ(expected, std::vector<double>(all.end() - config.vocab, all.end()));
  const auto cache = small.model.make_cache();
  small.model.logits(part(whole, 0, 41), Transformer::Rows::last, cache.get());
  const auto streamed =
      small.model.logits(part(whole, 41, length - 41), Transformer::Rows::last, cache.get()).to_host<double>();
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(streamed[i], expected[i], 1e-11);
}

TEST(Streaming, AnglesThatFollowTheLengthNeedTheWholeSequence) {
  ModelConfig config = small_config("rope");
  config.position.scaling = Scaling::dynamic;
  config.position.original_length = 32;
  EXPECT_THROW(SmallModel(config, {.precision = Precision::fp64}).model.make_cache(), UsageError);
}

TEST(Streaming, TokensThatSeeThoseAfterThemNeedTheWholeSequence) {
  EXPECT_THROW(SmallModel(small_config("rope", "full"), {.precision = Precision::fp64}).model.make_cache(), UsageError);
}

TEST(Streaming, ACacheHoldsOneSequence) {
  const ModelConfig config = small_config();
  SmallModel small(config, {.precision = Precision::fp64});
  const auto cache = small.model.make_cache();
  EXPECT_THROW(small.model.evaluate(small_batch(2, 5, config.vocab, false), cache.get()), Error);
}

}  // namespace
}  // namespace lexring
