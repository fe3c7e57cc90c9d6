#include "jobs/evaluation/statistics.h"

#include <cmath>

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "jobs/evaluation/results.h"
#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

TEST(Statistics, MeanAndErrorByHand) {
  // Means per segment 1, 2, 3, 6: mean 3, deviations -2 -1 0 3, variance 14 / 3, error sqrt(14 / 3 / 4).
  const Estimate e = mean_loss({{10, 20, 30, 60}, {10, 10, 10, 10}});
  EXPECT_DOUBLE_EQ(e.mean, 3);
  EXPECT_NEAR(e.error, std::sqrt(14.0 / 12.0), 1e-15);
}

TEST(Statistics, SegmentsOfUnequalSize) {
  // Sums 10 and 2 over 4 and 2 tokens: mean 2, residuals 10 - 8 and 2 - 4; sqrt(8 * 2 / 1) / 6. A segment without tokens says nothing.
  const Estimate e = mean_loss({{10, 0, 2}, {4, 0, 2}});
  EXPECT_DOUBLE_EQ(e.mean, 2);
  EXPECT_NEAR(e.error, 4.0 / 6.0, 1e-15);
}

TEST(Statistics, PairedErrorIsOfTheDifference) {
  // The texts differ by up to 50, the two measurements by 2, 4, 6 per ten tokens: difference 0.4, deviations -0.2 0 0.2, error 0.2 /
  // sqrt(3).
  const SegmentSums a{{12, 34, 66}, {10, 10, 10}}, b{{10, 30, 60}, {10, 10, 10}};
  const Estimate e = paired_difference(a, b);
  EXPECT_NEAR(e.mean, 0.4, 1e-15);
  EXPECT_NEAR(e.error, 0.2 / std::sqrt(3.0), 1e-15);
  EXPECT_THROW(paired_difference(a, {{10, 30, 60}, {10, 10, 9}}), Error);
}

TEST(Statistics, WhatCannotBeKnownIsNaN) {
  EXPECT_TRUE(std::isnan(mean_loss({{10}, {4}}).error));
  EXPECT_TRUE(std::isnan(mean_loss({{}, {}}).mean));
  EXPECT_TRUE(std::isnan(mean_loss({{10, std::nan("")}, {4, 4}}).mean));
}

TEST(Statistics, AttentionResolutionByHand) {
  // e^s = 4, 2, 1: (4 (4 - 2) + 2 (2 - 1)) / 6^2. A constant added to the scores changes nothing.
  const double l = std::log(2.0);
  EXPECT_NEAR(attention_resolution({2 * l, l, 0}), 10.0 / 36.0, 1e-15);
  EXPECT_NEAR(attention_resolution({2 * l + 900, l + 900, 900}), 10.0 / 36.0, 1e-12);
  EXPECT_THROW(attention_resolution({1}), Error);
}

TEST(Statistics, BucketsCoverEveryPositionOnce) {
  for (const std::int64_t length : {1, 2, 5, 6, 7, 64, 1000, 1 << 20}) {
    std::int64_t next = 0;
    for (const auto& [first, last] : position_buckets(length)) {
      EXPECT_EQ(first, next);
      EXPECT_GT(last, first);
      next = last;
    }
    EXPECT_EQ(next, length);
  }
  EXPECT_LT(position_buckets(1 << 20).size(), 48u);
}

TEST(Results, DifferencesAreToTheTrainingLength) {
  EvaluationResults r;
  r.train_length = 256;
  r.lengths = {128, 256, 512};
  PatternRow row{"causal", "causal", std::vector<Cell>(3)};
  for (std::size_t i = 0; i < 3; ++i) {
    row.cells[i].length = r.lengths[i];
    row.cells[i].segments = {{10.0 + static_cast<double>(i), 20.0 + static_cast<double>(i)}, {10, 10}};
  }
  row.cells[2].not_measured = "beyond max_length";
  r.patterns = {row};
  summarise(r);
  EXPECT_EQ(r.base_length, 256);
  const auto& cells = r.patterns[0].cells;
  EXPECT_NEAR(cells[0].difference->mean, -0.1, 1e-15);
  EXPECT_FALSE(cells[1].difference);
  EXPECT_FALSE(cells[2].difference);
  EXPECT_DOUBLE_EQ(cells[1].perplexity, std::exp(1.6));
  EXPECT_NE(to_table(r).find("n/a: causal at 512: beyond max_length"), std::string::npos);
}

TEST(Numbers, AsPeopleReadThem) {
  EXPECT_EQ(with_commas(1048576), "1,048,576");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(multiple_of(4096, 256), "16x");
  EXPECT_EQ(multiple_of(128, 256), "0.5x");
  EXPECT_EQ(multiple_of(300, 256), "");
  EXPECT_EQ(format_number(std::nan(""), 2), "nan");
  EXPECT_EQ(format_number(0.5, 2, Sign::always), "+0.50");
}

}  // namespace
}  // namespace lexring
