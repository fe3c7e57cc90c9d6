#include "jobs/evaluation/task_scores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "datasets/prepare_task.h"
#include "framework/base/error.h"
#include "jobs/evaluation/task_evaluation.h"
#include "tests/jobs/evaluation/written_texts.h"

namespace lexring::testing {
namespace {

TEST(Share, HasWilsonsInterval) {
  const auto expect_interval = [](std::int64_t right, std::int64_t of, double low, double high) {
    Share share;
    for (std::int64_t i = 0; i < of; ++i) share.add_text(i < right ? 1 : 0, 1);
    EXPECT_NEAR(share.interval().low, low, 5e-5);
    EXPECT_NEAR(share.interval().high, high, 5e-5);
  };
  expect_interval(0, 10, 0, 0.2775);
  expect_interval(10, 10, 0.7225, 1);
  expect_interval(81, 263, 0.2553, 0.3662);  // Newcombe 1998, table I, method 3
  expect_interval(15, 148, 0.0624, 0.1605);
  expect_interval(0, 0, 0, 1);
}

TEST(Share, CountsAnswersToOneTextAsFewer) {
  const auto interval_of = [](const std::vector<std::int64_t>& right, std::int64_t of) {
    Share whole, halves[2];
    for (std::size_t i = 0; i < right.size(); ++i) {
      whole.add_text(right[i], of);
      halves[i % 2].add_text(right[i], of);
    }
    halves[0] += halves[1];
    EXPECT_EQ(halves[0].interval().low, whole.interval().low);
    return whole.interval();
  };
  // A text of 9 answers that are all right or all wrong is one observation.
  const auto together = interval_of({9, 0, 9, 0, 9, 0, 9, 0, 9, 0}, 9),
             single = interval_of({1, 0, 1, 0, 1, 0, 1, 0, 1, 0}, 1);
  EXPECT_NEAR(together.low, single.low, 1e-12);
  EXPECT_NEAR(together.high, single.high, 1e-12);
  EXPECT_NEAR(interval_of({9, 9, 9, 9}, 9).low, interval_of({1, 1, 1, 1}, 1).low, 1e-12);
  // Texts that differ no more than independent answers do: the answers count.
  EXPECT_NEAR(interval_of({1, 1, 1, 1}, 2).low, interval_of({1, 0, 1, 0, 1, 0, 1, 0}, 1).low, 1e-12);
}

class Scores : public ::testing::Test {
 protected:
  Context context_;
  std::unique_ptr<Backend> backend_ = make_reference_backend();
  std::unique_ptr<Transformer> model(const std::string& pattern) {
    return random_model(tiny_config(pattern, 256), context_, *backend_);
  }
  TaskScore scored(Transformer& model, const std::vector<ScoredText>& texts, std::int64_t chunk) {
    TaskScore result;
    score(result, model, context_, texts, chunk);
    return result;
  }
};

TEST(TaskResults, AreOfOtherTextsThanADatasetOfTheSameSeed) {
  TaskResults results;
  results.keys = {.task = "copy", .sizes = {12, 13}, .count = 50, .seed = 3, .settings = {}, .haystack = ""};
  results.variants = {{"", {}}};
  std::set<std::string> trained;
  for (std::int64_t i = 0; i < 50; ++i) trained.insert(text_of_series(results.keys.kind(), 3, i, 12, 12, {}).text);
  for (const ScoredText& text : texts_of(results, 0, 0)) EXPECT_FALSE(trained.contains(text.text));
  EXPECT_NE(texts_of(results, 0, 0)[0].text.substr(0, 12), texts_of(results, 1, 0)[0].text.substr(0, 12));
  EXPECT_EQ(texts_of(results, 1, 0)[7].text, texts_of(results, 1, 0)[7].text);
}

TEST_F(Scores, WhatTheModelItselfWouldWriteIsRight) {
  for (const std::string pattern : {"causal", "blockwise", "sink_window", "landmark"}) {
    const auto writer = model(pattern);
    std::vector<ScoredText> texts = written_texts(*writer);
    for (const std::int64_t chunk : {1, 7, 33, 4096}) {  // streamed, some together, all together
      const TaskScore all_right = scored(*writer, texts, chunk);
      EXPECT_EQ(all_right.answers.right(), 10) << pattern << " " << chunk;
      EXPECT_EQ(all_right.answers.of(), 10);
      EXPECT_EQ(all_right.bytes.right(), all_right.bytes.of());
      EXPECT_EQ(all_right.bytes.of(), 5 * (3 + 1));
      EXPECT_EQ(all_right.texts, 5);
      EXPECT_EQ(all_right.longest, pattern == "landmark" ? 40 + 7 : 40);
    }
    // One wrong byte in the last answer of one text, which nothing comes after.
    texts[2].text.back() = static_cast<char>(texts[2].text.back() ^ 1);
    for (const std::int64_t chunk : {1, 7, 33, 4096}) {
      const TaskScore one_wrong = scored(*writer, texts, chunk);
      EXPECT_EQ(one_wrong.answers.right(), 9) << pattern << " " << chunk;
      EXPECT_EQ(one_wrong.bytes.right(), one_wrong.bytes.of() - 1);
    }
  }
}

}  // namespace
}  // namespace lexring::testing
