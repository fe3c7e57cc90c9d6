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
  // Sums 10 and 2 over 4 and 2 tokens: mean 2, residuals 10 - 8 and 2 - 4; sqrt(8 * 2 / 1) / 6. A segment without
  // tokens says nothing.
  const Estimate e = mean_loss({{10, 0, 2}, {4, 0, 2}});
  EXPECT_DOUBLE_EQ(e.mean, 2);
  EXPECT_NEAR(e.error, 4.0 / 6.0, 1e-15);
}

TEST(Statistics, PairedErrorIsOfTheDifference) {
  // The texts differ by up to 50, the two measurements by 2, 4, 6 per ten tokens: difference 0.4, deviations -0.2 0
  // 0.2, error 0.2 / sqrt(3).
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

TEST(Statistics, ClustersAreWholeWindows) {
  EXPECT_EQ(cluster_tokens({256}), 4096);
  EXPECT_EQ(cluster_tokens({300}), 4200);
  EXPECT_EQ(cluster_tokens({8192}), 8192);
  EXPECT_EQ(cluster_tokens({8192, 256}), 8192);
  EXPECT_EQ(cluster_tokens({6000, 4000}), 12000);
  const std::vector<std::int64_t> ends = segment_ends(24000, {4200, 12000});
  EXPECT_EQ(ends, (std::vector<std::int64_t>{4200, 8400, 12000, 12600, 16800, 21000, 24000}));
  const SegmentSums segments{{1, 2, 3, 4, 5, 6, 7}, {10, 20, 30, 40, 50, 60, 70}};
  EXPECT_EQ(clustered(segments, ends, 12000).nll, (std::vector<double>{6, 22}));
  EXPECT_EQ(clustered(segments, ends, 12000).tokens, (std::vector<std::int64_t>{60, 220}));
  EXPECT_EQ(clustered(segments, ends, 4200).nll, (std::vector<double>{1, 2, 7, 5, 6, 7}));
  EXPECT_THROW(clustered(segments, {24000}, 12000), Error);
}

/// An evaluation at 256 and at 16,384 tokens, of a text whose every stretch is some amount harder than the next, and
/// whose losses fall by `trend` from one segment of the long window to the next.
EvaluationResults falling_along_the_window(const std::vector<double>& of_windows, double trend) {
  EvaluationResults r;
  r.lengths = {256, 16384};
  r.tokens = static_cast<std::int64_t>(of_windows.size()) * 16384;
  r.models.resize(1);
  r.models[0].train_length = 256;
  prepare_segments(r);
  Series series;
  series.cells.resize(2);
  for (std::size_t i = 0; i < r.segment_ends.size(); ++i) {
    const double hardness = 2 + 0.5 * std::sin(static_cast<double>(i)), place = static_cast<double>(i % 4) - 1.5;
    for (Cell& cell : series.cells) {
      cell.length = &cell == &series.cells[0] ? 256 : 16384;
      const double loss = cell.length == 256 ? hardness : hardness + of_windows[i / 4] - trend * place;
      cell.segments.nll.push_back(4096 * loss);
      cell.segments.tokens.push_back(4096);
    }
  }
  r.series = {series};
  summarise(r);
  return r;
}

TEST(Results, ATrendAlongTheWindowIsNoNoise) {
  // What windows differ by: 0.01 0.03 0.02 0.06, mean 0.03, deviations -0.02 0 -0.01 0.03: the error is sqrt(0.0014 / 3
  // / 4), whatever the trend.
  const double error = std::sqrt(0.0014 / 12);
  double alone = 0;
  for (const double trend : {0.0, 0.1, 1.0}) {
    const auto r = falling_along_the_window({0.01, 0.03, 0.02, 0.06}, trend);
    ASSERT_EQ(r.segment_ends.size(), 16u);
    const Cell& cell = r.series[0].cells[1];
    EXPECT_NEAR(cell.difference->mean, 0.03, 1e-12) << trend;
    EXPECT_NEAR(cell.difference->error, error, 1e-12) << trend;
    EXPECT_EQ(cell.difference->clusters, 4);
    if (trend == 0) alone = cell.loss.error;
    EXPECT_NEAR(cell.loss.error, alone, 1e-12) << trend;
    EXPECT_EQ(r.series[0].cells[0].loss.clusters, 16);  // short windows: by segments, as many as there are
  }
  // One window says nothing of how windows differ.
  EXPECT_TRUE(std::isnan(falling_along_the_window({0.01}, 0.1).series[0].cells[1].difference->error));
}

TEST(Results, WindowsThatShareFewBordersAreClusteredByTheOnesTheyShare) {
  EvaluationResults r;
  r.lengths = {256, 300};
  r.tokens = 57600;
  r.models.resize(1);
  r.models[0].train_length = 256;
  prepare_segments(r);
  const auto loss_at = [](std::int64_t length, std::int64_t token) {
    const auto at = static_cast<double>(token);
    return 2 + std::sin(at / 1000) + (length == 300 ? 0.1 * std::sin(at / 7000) : 0);
  };
  /// Sums over the pieces that end at `ends`.
  const auto sums = [](const std::vector<std::int64_t>& ends, const auto& of_token) {
    SegmentSums s;
    for (std::int64_t token = 0; const std::int64_t end : ends) {
      s.tokens.push_back(end - token);
      s.nll.push_back(0);
      for (; token < end; ++token) s.nll.back() += of_token(token);
    }
    return s;
  };
  Series& series = r.series.emplace_back();
  for (const std::int64_t length : r.lengths) {
    Cell& cell = series.cells.emplace_back();
    cell.length = length;
    cell.segments = sums(r.segment_ends, [&](std::int64_t token) { return loss_at(length, token); });
  }
  summarise(r);
  const auto expect_near = [](const Estimate& e, const SegmentSums& clusters) {
    const Estimate by_hand = mean_loss(clusters);
    EXPECT_EQ(e.clusters, std::ssize(clusters.nll));
    EXPECT_NEAR(e.mean, by_hand.mean, 1e-12);
    EXPECT_NEAR(e.error, by_hand.error, 1e-12);
  };
  const auto& cells = series.cells;
  expect_near(cells[0].loss,
              sums(segment_ends(r.tokens, {4096}), [&](std::int64_t token) { return loss_at(256, token); }));
  expect_near(cells[1].loss,
              sums(segment_ends(r.tokens, {4200}), [&](std::int64_t token) { return loss_at(300, token); }));
  // 19,200 is the first multiple of both lengths.
  expect_near(*cells[1].difference, sums({19200, 38400, 57600}, [&](std::int64_t token) {
    return loss_at(300, token) - loss_at(256, token);
  }));
}

TEST(Statistics, VerdictsKnowHowFewClustersThereAre) {
  EXPECT_EQ(verdict({0.003, 0.001, 64}), Verdict::worse);  // far below a hundredth, and certain
  EXPECT_EQ(verdict({-0.003, 0.001, 64}), Verdict::better);
  EXPECT_EQ(verdict({0.0042, 0.001, 3}), Verdict::unclear);  // t = 4.30 for two degrees of freedom, 3.18 for three
  EXPECT_EQ(verdict({0.0044, 0.001, 3}), Verdict::worse);
  EXPECT_EQ(verdict({0.003, std::nan(""), 1}), Verdict::unclear);
  EXPECT_EQ(verdict({std::nan(""), std::nan(""), 64}), Verdict::worse);
}

TEST(Results, DifferencesAreToTheTrainingLength) {
  EvaluationResults r;
  r.lengths = {128, 256, 512};
  r.tokens = 8192;
  r.models.resize(1);
  r.models[0].train_length = 256;
  prepare_segments(r);
  Series series;
  series.name = "causal";
  series.cells.resize(3);
  for (std::size_t i = 0; i < 3; ++i) {
    series.cells[i].length = r.lengths[i];
    series.cells[i].segments = {{10.0 + static_cast<double>(i), 20.0 + static_cast<double>(i)}, {10, 10}};
  }
  series.cells[2].not_measured = "beyond max_length";
  r.series = {series};
  summarise(r);
  EXPECT_EQ(r.base_length(), 256);
  const auto& cells = r.series[0].cells;
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
  EXPECT_EQ(with_error({0.25, 0.0012, 9}), "0.2500 ± 0.0012");
  EXPECT_EQ(with_error({-0.00000123, 0.00000045, 9}, Sign::always), "-0.00000123 ± 0.00000045");
  EXPECT_EQ(with_error({0.25, std::nan(""), 1}), "0.2500 ± –");
  EXPECT_EQ(counted_with_commas(1, "document"), "1 document");
  EXPECT_EQ(counted_with_commas(2000, "loss"), "2,000 losses");
}

}  // namespace
}  // namespace lexring
