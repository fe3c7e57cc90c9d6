#include "jobs/evaluation/evaluator.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "models/layer_configs.h"
#include "tests/jobs/evaluation/random_model.h"

namespace lexring::testing {
namespace {

class Evaluator : public ::testing::Test {
 protected:
  TempDirectory directory_;
  Dataset dataset_ = random_text(directory_, 4000);
  Context context_;
  std::unique_ptr<Backend> backend_ = make_reference_backend();

  /// The data as a model with this pattern reads them.
  Dataset data(const std::string& pattern) {
    Dataset dataset = Dataset::open(dataset_.path());
    dataset.insert_landmarks(landmark_every_of(tiny_config(pattern, dataset_.vocab())));
    return dataset;
  }
  Cell cell(const std::string& pattern, const TokenStream& stream, std::int64_t length) {
    const auto model = random_model(tiny_config(pattern, dataset_.vocab()), context_, *backend_);
    return measure(*model, context_, data(pattern), stream, length);
  }
};

TEST_F(Evaluator, StreamedEqualsWhole) {
  for (const char* pattern : {"causal", "blockwise", "window", "sink_window", "landmark"}) {
    for (const Documents documents : {Documents::ignore, Documents::mask}) {
      const Cell whole = cell(pattern, {256, documents, 4096, {}}, 128);
      for (const std::int64_t chunk : {1, 7, 32, 128}) {
        const Cell streamed = cell(pattern, {256, documents, chunk, {}}, 128);
        EXPECT_NEAR(streamed.segments.nll[0], whole.segments.nll[0], 1e-9 * whole.segments.nll[0])
            << pattern << " chunk " << chunk;
        ASSERT_EQ(streamed.by_position.size(), whole.by_position.size());
        for (std::size_t i = 0; i < whole.by_position.size(); ++i)
          EXPECT_NEAR(streamed.by_position[i].loss, whole.by_position[i].loss, 1e-8);
      }
    }
  }
}

TEST_F(Evaluator, EveryLengthScoresTheSameTokens) {
  const std::vector<std::int64_t> lengths = {32, 128, 4096, 8192};
  const std::int64_t tokens = tokens_to_score(dataset_, lengths, 8192);
  ASSERT_EQ(tokens, 8192);
  // 93 windows at a time: some lie in another segment than the first of them.
  const Cell first = cell("blockwise", {tokens, Documents::ignore, 3000, {}}, 32);
  EXPECT_EQ(first.segments.tokens, (std::vector<std::int64_t>{4096, 4096}));
  for (const std::int64_t length : lengths) {
    const Cell other = cell("blockwise", {tokens, Documents::ignore, 256, {}}, length);
    EXPECT_EQ(other.segments.tokens, first.segments.tokens) << length;
    std::int64_t by_position = 0;
    for (const PositionLoss& p : other.by_position) by_position += p.tokens;
    EXPECT_EQ(by_position, tokens);
  }
}

TEST_F(Evaluator, SegmentsEndWhereTheyAreToldTo) {
  const Cell usual = cell("blockwise", {8192, Documents::ignore, 64, {}}, 32);
  const Cell cut =
      cell("blockwise", {8192, Documents::ignore, 64, {3001, 4096, 8192}}, 32);  // amid a window and a chunk
  EXPECT_EQ(cut.segments.tokens, (std::vector<std::int64_t>{3001, 1095, 4096}));
  EXPECT_NEAR(cut.segments.nll[0] + cut.segments.nll[1], usual.segments.nll[0], 1e-9 * usual.segments.nll[0]);
  EXPECT_NEAR(cut.segments.nll[2], usual.segments.nll[1], 1e-9 * usual.segments.nll[1]);
}

TEST_F(Evaluator, AWindowSeesNothingOfTheOneBefore) {
  // Two windows measured together are the two measured apart.
  const auto model = random_model(tiny_config("causal", dataset_.vocab()), context_, *backend_);
  const TokenBatch read = read_windows(dataset_, 64, 1, 64, Documents::ignore);
  const ModelBatch second = make_batch(1, 64, read.tokens, read.targets, read.document_start, 0);
  const double alone = model->evaluate(second).nll_sum();
  const double both = measure(*model, context_, dataset_, {128, Documents::ignore, 4096, {}}, 64).segments.nll[0];
  const double first = measure(*model, context_, dataset_, {64, Documents::ignore, 4096, {}}, 64).segments.nll[0];
  EXPECT_NEAR(both, first + alone, 1e-9 * both);
}

TEST_F(Evaluator, BitsPerByteCountTheTextOfTargets) {
  for (const std::string pattern : {"causal", "landmark"}) {
    std::int64_t bytes = 0;
    const TokenBatch read = read_windows(data(pattern), 0, 1, 192, Documents::ignore);
    for (const std::int32_t target : read.targets)
      bytes += target < 0 ? 0 : dataset_.token_bytes()[static_cast<std::size_t>(target)];
    for (const std::int64_t length : {64, 192}) {
      const Cell one = cell(pattern, {192, Documents::ignore, 4096, {}}, length);
      EXPECT_NEAR(one.bits_per_byte, one.segments.nll[0] / std::log(2.0) / static_cast<double>(bytes), 1e-12);
      // Every token that is no landmark tells the next one, at the end of a window too.
      const auto landmarks = std::count(read.tokens.begin(), read.tokens.end(), 257);
      EXPECT_EQ(landmarks > 20, pattern == "landmark");
      EXPECT_EQ(one.tokens, 192 - landmarks);
      std::int64_t by_position = 0;
      for (const PositionLoss& p : one.by_position) by_position += p.tokens;
      EXPECT_EQ(by_position, one.tokens);
    }
  }
}

TEST_F(Evaluator, MemoryDoesNotGrowWithLength) {
  // Blockwise and window hold what is still visible; causal holds everything and shows that the measurement would see
  // it.
  for (const char* pattern : {"blockwise", "window"}) {
    const double small = cell(pattern, {8192, Documents::ignore, 64, {}}, 64).peak_mib;
    const double large = cell(pattern, {8192, Documents::ignore, 64, {}}, 8192).peak_mib;
    EXPECT_LT(large, 1.1 * small) << pattern;
  }
  const double small = cell("causal", {2048, Documents::ignore, 64, {}}, 64).peak_mib;
  EXPECT_GT(cell("causal", {2048, Documents::ignore, 64, {}}, 2048).peak_mib, 1.1 * small);
}

TEST_F(Evaluator, NonFiniteLossesAreCountedAndShown) {
  const auto model = random_model(tiny_config("causal", dataset_.vocab()), context_, *backend_);
  model->parameters().front().value.data<double>()[0] = std::nan("");
  model->refresh_compute();
  Cell broken = measure(*model, context_, dataset_, {64, Documents::ignore, 4096, {}}, 64);
  EXPECT_GT(broken.not_finite, 0);
  EXPECT_TRUE(std::isnan(mean_loss(broken.segments).mean));
}

TEST_F(Evaluator, TokensToScore) {
  const std::int64_t held = dataset_.tokens();
  EXPECT_EQ(tokens_to_score(dataset_, {32, 1024}, 0), held / 1024 * 1024);
  EXPECT_EQ(tokens_to_score(dataset_, {32, 1024}, 3000), 2048);
  EXPECT_EQ(tokens_to_score(dataset_, {32, 48}, 100), 96);
  EXPECT_EQ(tokens_to_score(dataset_, {held}, 0), held);
  const auto says = [&](const std::vector<std::int64_t>& lengths, std::int64_t wanted) {
    return error_of([&] { tokens_to_score(dataset_, lengths, wanted); });
  };
  expect_says(says({32, 1 << 20}, 0), "1048576", "up to " + std::to_string(held), "longer corpus");
  expect_says(says({997, 991}, 0), "divide the longest");
  expect_says(says({32, 1024}, 512), "at least 1024");
  expect_says(says({32}, held + 1), "at most " + std::to_string(held));
  expect_says(says({0}, 0), "1 or more");
}

TEST_F(Evaluator, ResolutionIsOfTheScores) {
  const auto model = random_model(tiny_config("causal", dataset_.vocab()), context_, *backend_);
  const Resolution r = measure_resolution(*model, context_, dataset_, {256, Documents::ignore, 4096, {}}, 32, 4);
  ASSERT_EQ(r.by_layer.size(), 2u);
  EXPECT_NEAR(r.value, (r.by_layer[0] + r.by_layer[1]) / 2, 1e-15);
  EXPECT_NE(r.by_layer[0], r.by_layer[1]);
  EXPECT_NE(r.by_layer[1], 0);  // that of scores which are all the same
  EXPECT_LT(std::abs(r.value), 1);
}

}  // namespace
}  // namespace lexring::testing
