// Hidden tokens: pure functions of seed, sample and token, in the shares that the configuration says.
#include "models/masking.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace lexring {
namespace {

constexpr std::int64_t vocab = 51;
constexpr std::int32_t mask = vocab - 1;

ModelBatch plain_batch(std::int64_t sequences, std::int64_t length) {
  std::vector<std::int32_t> ids;
  for (std::int64_t n = 0; n < sequences * length; ++n) ids.push_back(static_cast<std::int32_t>(n * 7 % mask));
  return make_batch(sequences, length, ids, std::vector<std::int32_t>(ids.size(), 3), {}, 0);
}

TEST(Masking, SharesAreThoseOfTheConfiguration) {
  const ModelBatch plain = plain_batch(1, 200000);
  for (const MaskingConfig& config : {MaskingConfig{}, MaskingConfig{0.4, 0.5, 0.3}, MaskingConfig{1, 0, 0}}) {
    ModelBatch batch = plain;
    Masking{config, vocab}.hide_samples(batch, 1, 0);
    double hidden = 0, masked = 0, other = 0;
    for (std::size_t n = 0; n < batch.ids.size(); ++n) {
      if (batch.targets[n] < 0) {
        ASSERT_EQ(batch.ids[n], plain.ids[n]);
        continue;
      }
      ASSERT_EQ(batch.targets[n], plain.ids[n]);
      ASSERT_GE(batch.ids[n], 0);
      hidden += 1;
      masked += batch.ids[n] == mask ? 1 : 0;
      other += batch.ids[n] != mask && batch.ids[n] != plain.ids[n] ? 1 : 0;
    }
    const auto expect_share = [](double count, double of, double share) {
      EXPECT_NEAR(count, of * share, 5 * std::sqrt(of * share * (1 - share)) + 1e-9);
    };
    expect_share(hidden, 200000, config.share);
    expect_share(masked, hidden, config.masked);
    expect_share(other, hidden, config.random * (mask - 1) / mask);  // one of them is the token itself
  }
}

TEST(Masking, ADrawIsAFunctionOfSeedAndSample) {
  const Masking how{{}, vocab};
  ModelBatch together = plain_batch(3, 40), again = together, seed = together;
  how.hide_samples(together, 5, 10);
  how.hide_samples(again, 5, 10);
  how.hide_samples(seed, 6, 10);
  EXPECT_EQ(together.ids, again.ids);
  EXPECT_NE(together.targets, seed.targets);
  for (std::int64_t i = 0; i < 3; ++i) {  // alone, as on another mesh
    ModelBatch alone = plain_batch(3, 40);
    const auto first = alone.ids.begin() + 40 * i;
    alone = make_batch(1, 40, {first, first + 40}, std::vector<std::int32_t>(40, 3), {}, 0);
    how.hide_samples(alone, 5, static_cast<std::uint64_t>(10 + i));
    EXPECT_TRUE(std::equal(alone.ids.begin(), alone.ids.end(), together.ids.begin() + 40 * i)) << i;
    EXPECT_TRUE(std::equal(alone.targets.begin(), alone.targets.end(), together.targets.begin() + 40 * i)) << i;
  }
}

TEST(Masking, WindowsOfAnyLengthHideTheSameTokens) {
  const Masking how{{}, vocab};
  ModelBatch whole = plain_batch(1, 120), cut = plain_batch(4, 30);
  how.hide_tokens(whole, 600);
  how.hide_tokens(cut, 600);
  EXPECT_EQ(whole.ids, cut.ids);
  EXPECT_EQ(whole.targets, cut.targets);
  ModelBatch later = plain_batch(1, 120);
  how.hide_tokens(later, 601);
  EXPECT_NE(whole.targets, later.targets);
}

/// What a run drew before an update is what it draws after it.
TEST(Masking, DrawsStayTheSame) {
  ModelBatch batch = plain_batch(1, 12);
  Masking{{0.5, 0.4, 0.3}, vocab}.hide_samples(batch, 1, 0);
  EXPECT_EQ(batch.ids, (std::vector<std::int32_t>{50, 7, 14, 21, 15, 35, 24, 49, 6, 13, 20, 50}));
  EXPECT_EQ(batch.targets, (std::vector<std::int32_t>{0, -1, -1, -1, 28, -1, 42, -1, -1, -1, -1, 27}));
}

TEST(Masking, SharesThatMakeNoSenseAreRefused) {
  EXPECT_THROW(check(MaskingConfig{0, 0.8, 0.1}), UsageError);
  EXPECT_THROW(check(MaskingConfig{0.15, 0.8, 0.3}), UsageError);
  EXPECT_NO_THROW(check(MaskingConfig{}));
}

}  // namespace
}  // namespace lexring
