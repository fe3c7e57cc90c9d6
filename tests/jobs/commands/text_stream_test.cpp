// A text that is read chunk by chunk and continued token by token gets the scores of one pass over all of it, in
// bounded memory.
#include "jobs/commands/text_stream.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "tests/jobs/evaluation/random_model.h"

namespace lexring {
namespace {

constexpr std::int64_t vocab = 31;

std::vector<std::int32_t> random_ids(std::int64_t count) {
  std::mt19937 random(11);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % vocab);
  return ids;
}

struct Fixture {
  explicit Fixture(const std::string& pattern)
      : context(make_self_communicator(), Mesh{}),
        backend(make_reference_backend()),
        model(testing::random_model(testing::tiny_config(pattern, vocab), context, *backend)) {}
  Context context;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Transformer> model;

  /// Most bytes in tensors while a text of `length` tokens is read.
  std::int64_t peak(std::int64_t length, std::int64_t chunk) {
    const auto ids = random_ids(length);
    backend->runtime().reset_peak();
    TextStream(*model, chunk).read(ids);
    return static_cast<std::int64_t>(backend->runtime().memory().peak);
  }
};

class TextStreamTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TextStreamTest, EveryTokenGetsTheScoresOfTheWhole) {
  constexpr std::int64_t length = 60, prompt = 41;
  Fixture f(GetParam());
  const std::vector<std::int32_t> ids = random_ids(length);
  const std::span<const std::int32_t> all(ids);
  const bool landmarks = f.model->config().attention.landmarks();
  std::vector<std::int32_t> read;  // with them
  std::vector<std::int64_t> rows;  // where each token stands
  for (std::int64_t n = 0; n < length; ++n) {
    if (landmarks && n > 0 && n % 5 == 0) read.push_back(vocab);
    rows.push_back(static_cast<std::int64_t>(read.size()));
    read.push_back(ids[static_cast<std::size_t>(n)]);
  }
  const auto places = static_cast<std::int64_t>(read.size());
  const ModelBatch whole =
      make_batch(1, places, read, {}, std::vector<std::int64_t>(read.size(), 0), f.model->config().attention.sinks);
  const auto expected = f.model->logits(whole, Transformer::Rows::all).to_host<double>();
  const std::int64_t width = f.model->config().vocab;
  const auto expect_row = [&](std::int64_t token, const std::vector<float>& scores) {
    const std::int64_t row = rows[static_cast<std::size_t>(token)];
    ASSERT_EQ(scores.size(), static_cast<std::size_t>(width));
    if (landmarks) {
      ASSERT_EQ(scores.back(), -std::numeric_limits<float>::infinity()) << "nobody draws a landmark";
    }
    for (std::int64_t v = 0; v < vocab; ++v) {
      const double reference = expected[static_cast<std::size_t>(row * width + v)];
      ASSERT_NEAR(scores[static_cast<std::size_t>(v)], reference, 1e-6 * (1 + std::abs(reference))) << "row " << row;
    }
  };
  for (const std::int64_t chunk : {1, 7, 12, 100}) {
    TextStream text(*f.model, chunk);
    expect_row(prompt - 1, text.read(all.first(prompt)));
    for (std::int64_t n = prompt; n < length; ++n)
      expect_row(n, text.read(all.subspan(static_cast<std::size_t>(n), 1)));
    EXPECT_EQ(text.length(), places);
    if (std::string(GetParam()) != "causal" && !landmarks) {
      EXPECT_LT(text.cache().kinds.at(0).rows()->tokens.rows(), length) << "chunk " << chunk;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, TextStreamTest,
                         ::testing::Values("causal", "window", "blockwise", "chunked", "sink_window", "landmark"),
                         [](const auto& given) { return std::string(given.param); });

TEST(TextStream, MemoryIsThatOfAChunkAndOfWhatThePatternSees) {
  for (const char* pattern : {"window", "blockwise", "sink_window"}) {
    Fixture f(pattern);
    const std::int64_t once = f.peak(1024, 64);
    EXPECT_LE(f.peak(8192, 64), once + once / 20) << pattern;
  }
  Fixture f("causal");  // keys and values stay: no faster than the text
  const std::int64_t once = f.peak(1024, 64);
  EXPECT_LT(f.peak(4096, 64), 6 * once);  // room to grow included; the square would be 16
  EXPECT_LT(2 * f.peak(1024, 64), f.peak(1024, 1024));
}

TEST(Draw, TakesTheLikeliestAmongFewOrAll) {
  std::mt19937_64 random(1);
  const std::vector<float> scores = {0, 3, 1, 3};
  EXPECT_EQ(draw(scores, 0, 0, random), 1);
  EXPECT_EQ(draw(scores, 1e-300, 1, random), 1);
  std::vector<int> counts(4);
  for (int i = 0; i < 2000; ++i) ++counts[static_cast<std::size_t>(draw(scores, 1, 2, random))];
  EXPECT_EQ(counts[0] + counts[2], 0);
  EXPECT_NEAR(counts[1], 1000, 150);
  for (const std::int64_t more_than_there_are : {std::int64_t{5}, std::numeric_limits<std::int64_t>::max()}) {
    std::mt19937_64 a(3), b(3);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(draw(scores, 1, more_than_there_are, a), draw(scores, 1, 0, b));
  }
}

TEST(Draw, ScoresThatAreNotNumbersAreAnError) {
  std::mt19937_64 random(1);
  EXPECT_THROW(draw({1, std::numeric_limits<float>::quiet_NaN()}, 1, 0, random), Error);
}

}  // namespace
}  // namespace lexring
