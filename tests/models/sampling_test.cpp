// Drawn positions: pure functions of seed and sample, and distributed as the reference says.
#include "models/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include <gtest/gtest.h>

#include "tests/models/model_testing.h"

namespace lexring {
namespace {

using Positions = std::vector<std::int64_t>;

constexpr std::int64_t length = 16, limit = 64;
constexpr std::uint64_t samples = 20000;

SamplingConfig config(const char* kind) { return {kind, limit}; }

template <class F>
void for_samples(const char* kind, F&& use) {
  for (std::uint64_t sample = 0; sample < samples; ++sample) use(sample_positions(config(kind), length, 3, sample));
}

/// How often each of [low, low + counts) came; all are equally likely. Pearson's statistic of k cells has mean k - 1
/// and variance 2 (k - 1); five deviations are never left by chance.
class Uniform {
 public:
  Uniform(std::int64_t low, std::int64_t high) : low_(low), counts_(static_cast<std::size_t>(high - low + 1)) {}
  void add(std::int64_t value) { ++counts_.at(static_cast<std::size_t>(value - low_)); }
  void expect() const {
    const double cells = static_cast<double>(counts_.size());
    const double expected = std::accumulate(counts_.begin(), counts_.end(), 0.0) / cells;
    double statistic = 0;
    for (const std::int64_t count : counts_) statistic += std::pow(static_cast<double>(count) - expected, 2) / expected;
    EXPECT_LT(std::abs(statistic - (cells - 1)), 5 * std::sqrt(2 * (cells - 1)));
    EXPECT_GT(*std::min_element(counts_.begin(), counts_.end()), 0);
  }

 private:
  std::int64_t low_;
  std::vector<std::int64_t> counts_;
};

TEST(Sampling, ADrawIsAFunctionOfSeedAndSample) {
  for (const SamplingMethod& method : SamplingMethod::table()) {
    const Positions first = sample_positions(config(method.name), length, 3, 5);
    EXPECT_EQ(sample_positions(config(method.name), length, 3, 5), first) << method.name;
    EXPECT_TRUE(std::adjacent_find(first.begin(), first.end(), std::greater_equal<>()) == first.end()) << method.name;
    EXPECT_GE(first.front(), 0) << method.name;
    EXPECT_LT(first.back(), config(method.name).reach(length)) << method.name;
    if (!method.limited) continue;
    EXPECT_NE(sample_positions(config(method.name), length, 3, 6), first) << method.name;
    EXPECT_NE(sample_positions(config(method.name), length, 4, 5), first) << method.name;
  }
}

/// What a run drew before an update is what it draws after it.
TEST(Sampling, DrawsStayTheSame) {
  EXPECT_EQ(sample_positions({"randomized", 100}, 6, 1, 0), (Positions{20, 38, 40, 65, 67, 80}));
  EXPECT_EQ(sample_positions({"shape", 100}, 3, 1, 0), (Positions{26, 27, 28}));
  EXPECT_EQ(sample_positions({"random_padding", 100}, 3, 1, 0), (Positions{35, 36, 37}));
  EXPECT_EQ(sample_positions({"pose", 100}, 6, 1, 0), (Positions{0, 1, 2, 13, 14, 15}));
  const std::vector<double> cape =
      sample_coordinates({.kind = "cape", .global_shift = 5.0, .local_shift = 0.5, .global_scale = 1.5}, 2, 1, 0);
  EXPECT_NEAR(cape[0], 2.19177, 1e-5);
  EXPECT_NEAR(cape[1], 3.75111, 1e-5);
}

TEST(Sampling, RandomizedIsASortedSampleWithoutReplacement) {
  Uniform all(0, limit - 1);
  std::vector<double> sums(length);
  double covariance = 0;  // of whether neighbours are in it
  for_samples("randomized", [&](const Positions& drawn) {
    for (std::size_t k = 0; k < drawn.size(); ++k) {
      all.add(drawn[k]);
      sums[k] += static_cast<double>(drawn[k]);
      covariance += k > 0 && drawn[k] == drawn[k - 1] + 1 ? 1.0 : 0.0;
    }
  });
  // Within a sample places exclude each other, so that counts vary less than of independent draws: by 1 - T / L.
  const double n = static_cast<double>(samples);
  for (std::size_t k = 0; k < sums.size(); ++k) {
    const double a = static_cast<double>(k + 1), t = length, l = limit;
    const double mean = a * (l + 1) / (t + 1) - 1;  // of the kth of an ordered sample from [0, L)
    const double variance = a * (t + 1 - a) * (l + 1) * (l - t) / ((t + 1) * (t + 1) * (t + 2));
    EXPECT_NEAR(sums[k] / n, mean, 5 * std::sqrt(variance / n)) << k;
  }
  const double neighbours = (limit - 1.0) * length * (length - 1) / (limit * (limit - 1.0));
  EXPECT_NEAR(covariance / n, neighbours, 5 * std::sqrt(neighbours / n));
  all.expect();
  EXPECT_EQ(sample_positions({"randomized", length}, length, 3, 7), sample_positions({"none", 0}, length, 3, 7));
}

TEST(Sampling, ShapeAndPaddingShiftAllPositionsAlike) {
  for (const char* kind : {"shape", "random_padding"}) {
    Uniform shifts(0, kind == std::string("shape") ? limit - 1 : limit - length);
    for_samples(kind, [&](const Positions& drawn) {
      shifts.add(drawn[0]);
      for (std::int64_t i = 0; i < length; ++i) ASSERT_EQ(drawn[static_cast<std::size_t>(i)], drawn[0] + i) << kind;
    });
    shifts.expect();
  }
}

TEST(Sampling, PoseSkipsOnceInTheFirstHalf) {
  // The first chunk's length and what is skipped, both at once, where something is: else it does not show.
  Uniform both(0, length / 2 * (limit - length) - 1), skips(0, limit - length);
  for_samples("pose", [&](const Positions& drawn) {
    const std::int64_t skipped = drawn.back() - (length - 1);
    skips.add(skipped);
    ASSERT_EQ(drawn[0], 0);
    std::int64_t first = 1;
    while (first < length && drawn[static_cast<std::size_t>(first)] == first) ++first;
    for (std::int64_t i = first; i < length; ++i) ASSERT_EQ(drawn[static_cast<std::size_t>(i)], i + skipped);
    if (skipped == 0) return;
    ASSERT_LE(first, length / 2);
    both.add((first - 1) * (limit - length) + skipped - 1);
  });
  both.expect();
  skips.expect();
}

TEST(Sampling, CapeShiftsAndScalesSequencesAndShiftsTokens) {
  const SamplingConfig cape = {.kind = "cape", .global_shift = 6, .local_shift = 0.5, .global_scale = 4};
  Uniform shifts(0, 59), scales(0, 59), tokens(0, 59), shift_and_token(0, 35);
  const auto cell = [](double value, double bound, double cells) {
    return static_cast<std::int64_t>(std::floor((value / bound + 1) / 2 * cells));
  };
  for (std::uint64_t sample = 0; sample < samples; ++sample) {
    // Of one number drawn alone the rest of the formula is left out.
    const auto alone = [&](const SamplingConfig& one) { return sample_coordinates(one, 4, 3, sample); };
    const std::vector<double> shifted = alone({.kind = "cape", .global_shift = 6}),
                              scaled = alone({.kind = "cape", .global_scale = 4}),
                              local = alone({.kind = "cape", .local_shift = 0.5}), all = alone(cape);
    for (std::size_t n = 0; n < all.size(); ++n) {
      const auto p = static_cast<double>(n);
      ASSERT_DOUBLE_EQ(shifted[n], shifted[0] + p);
      ASSERT_DOUBLE_EQ(scaled[n], scaled[1] * p);
      ASSERT_NEAR(all[n], (shifted[0] + local[n]) * scaled[1], 1e-12);
    }
    ASSERT_TRUE(std::is_sorted(all.begin(), all.end()));
    shifts.add(cell(shifted[0], 6, 60)), scales.add(cell(std::log(scaled[1]), std::log(4), 60));
    tokens.add(cell(local[0], 0.5, 60));
    shift_and_token.add(6 * cell(shifted[0], 6, 6) + cell(local[3] - 3, 0.5, 6));
  }
  for (const Uniform* drawn : {&shifts, &scales, &tokens, &shift_and_token}) drawn->expect();

  ModelBatch batch = make_batch(2, 4, std::vector<std::int32_t>(8, 1), {}, {}, 0);
  const TokenTable before = batch.tokens;
  draw_positions(batch, cape, 3, 7);
  std::vector<double> both = sample_coordinates(cape, 4, 3, 7);
  for (const double coordinate : sample_coordinates(cape, 4, 3, 8)) both.push_back(coordinate);
  EXPECT_EQ(batch.tokens.coordinate, both);
  EXPECT_EQ(batch.tokens.position, before.position);
  EXPECT_EQ(batch.tokens.sequences, before.sequences);
  EXPECT_THROW(check(SamplingConfig{.kind = "cape"}, length), UsageError);
  check(cape, length);
}

TEST(Sampling, PositionsJumpAfterLandmarks) {
  Uniform jumps(0, 8);  // two at once
  const SamplingConfig config{.kind = "landmark_jump", .jump = 3};
  const std::vector<bool> landmarks = {false, true, false, false, true, false, true};
  for (std::uint64_t sample = 0; sample < samples; ++sample) {
    const Positions drawn = sample_positions(config, 7, 3, sample, landmarks);
    const std::int64_t first = drawn[2] - 2, second = drawn[5] - 5 - first;
    ASSERT_EQ(drawn, (Positions{0, 1, 2 + first, 3 + first, 4 + first, 5 + first + second, 6 + first + second}));
    jumps.add(3 * first + second);
  }
  jumps.expect();

  ModelBatch batch = make_batch(2, 7, {5, 9, 5, 5, 9, 5, 9, 5, 9, 5, 5, 9, 5, 9}, {}, Positions(14, 0), 0);
  for (auto n = batch.document_start.begin() + 10; n != batch.document_start.end(); ++n) *n = 3;
  draw_positions(batch, config, 9, 7, 9);
  const Positions first = sample_positions(config, 7, 9, 7, landmarks),
                  second = sample_positions(config, 7, 9, 8, landmarks);
  EXPECT_EQ(Positions(batch.tokens.position.begin(), batch.tokens.position.begin() + 7), first);
  EXPECT_EQ(Positions(batch.tokens.position.begin() + 7, batch.tokens.position.end()), second);
  EXPECT_EQ(batch.document_start[12], second[3]);
  check(config, landmark_config());
  EXPECT_THROW(check(config, small_config()), UsageError);
  EXPECT_THROW(check(SamplingConfig{.kind = "landmark_jump", .jump = 1}, 7), UsageError);
  EXPECT_THROW(check(SamplingConfig{.kind = "landmark_jump", .jump = std::int64_t{1} << 30}, 7), UsageError);
  EXPECT_EQ(config.reach(7), 19);
}

TEST(Sampling, CoordinatesAreRefusedWhereAMethodTakesWholeNumbersOnly) {
  for (const PositionMethod& method : PositionMethod::table()) {
    ModelConfig model;
    model.override[1].position.kind = method.name;
    check(SamplingConfig{}, model);
    const bool takes = std::set<std::string>{"none", "sinusoidal", "rope", "xpos", "alibi"}.count(method.name) > 0;
    if (takes) check(SamplingConfig{.kind = "cape"}, model);
    else EXPECT_THROW(check(SamplingConfig{.kind = "cape"}, model), UsageError) << method.name;
  }
}

TEST(Sampling, DocumentsAndSinksGoAlong) {
  // Two sequences of six tokens; the second has documents from its tokens 0 and 4. Two sinks.
  ModelBatch batch = make_batch(2, 6, std::vector<std::int32_t>(12, 1), {}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4}, 2);
  draw_positions(batch, {"randomized", 50}, 9, 7);
  const Positions first = sample_positions({"randomized", 50}, 6, 9, 7),
                  second = sample_positions({"randomized", 50}, 6, 9, 8);
  Positions both = first;
  both.insert(both.end(), second.begin(), second.end());
  EXPECT_EQ(batch.tokens.position, both);
  EXPECT_EQ(Positions(batch.document_start.begin(), batch.document_start.begin() + 6), Positions(6, first[0]));
  EXPECT_EQ(Positions(batch.document_start.begin() + 6, batch.document_start.end()),
            (Positions{second[0], second[0], second[0], second[0], second[4], second[4]}));
  EXPECT_EQ(batch.sink_end[0], first[1] + 1);
  EXPECT_EQ(batch.sink_end[11], second[5] + 1);
  check(batch.tokens);
  const ModelBatch plain = make_batch(1, 6, std::vector<std::int32_t>(6, 1), {}, Positions(6, 0), 0);
  ModelBatch same = plain;
  draw_positions(same, {}, 9, 7);
  EXPECT_EQ(same.tokens, plain.tokens);
}

TEST(Sampling, LimitsThatMakeNoSenseAreRefused) {
  for (const char* kind : {"randomized", "random_padding", "pose"}) {
    EXPECT_THROW(check(SamplingConfig{kind, length - 1}, length), UsageError) << kind;
    check(SamplingConfig{kind, length}, length);
  }
  EXPECT_THROW(check(SamplingConfig{"shape", 0}, length), UsageError);
  check(SamplingConfig{"shape", 1}, length);
  check(SamplingConfig{}, length);
  EXPECT_THROW(check(SamplingConfig{"shape", std::int64_t{1} << 31}, length), UsageError);
  EXPECT_EQ((SamplingConfig{"shape", 10}.reach(4)), 13);
  EXPECT_EQ((SamplingConfig{"pose", 10}.reach(4)), 10);
  EXPECT_EQ(SamplingConfig{}.reach(4), 4);
}

}  // namespace
}  // namespace lexring
