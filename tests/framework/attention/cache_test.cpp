#include "framework/attention/cache.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

namespace lexring {
namespace {

/// Feeds chunks whose keys hold their own position, values its negative, and rotation tables half of it; so rows can be
/// recognised.
class CacheTest : public ::testing::Test {
 protected:
  void feed(std::int64_t first, std::int64_t count, const CacheKeep& keep) {
    TokenTable chunk;
    chunk.sequences = {{0, 0, count}};
    std::vector<double> keys;
    std::vector<double> values;
    std::vector<double> turns;
    for (std::int64_t n = first; n < first + count; ++n) {
      const auto x = static_cast<double>(n);
      chunk.position.push_back(n);
      for (const double value : {x, x + 0.5}) keys.push_back(value);
      for (const double value : {-x, -x - 0.5}) values.push_back(value);
      turns.push_back(x / 2);
    }
    Runtime& runtime = backend->runtime();
    const Tensor table = Tensor::from(runtime, {count, 1}, turns);
    cache.begin_chunk(*make_rows(chunk, {table, table}), keep);
    for (std::int64_t layer = 0; layer < 2; ++layer)
      cache.append(layer, *backend, Tensor::from(runtime, {count, 2}, keys), Tensor::from(runtime, {count, 2}, values));
  }
  /// Every part of the cache tells the same story; returns the positions held.
  std::vector<std::int64_t> held() {
    const auto& positions = cache.rows()->tokens.position;
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const auto keys = cache.keys(layer).to_host<double>();
      const auto values = cache.values(layer).to_host<double>();
      const auto sine = cache.rows()->rotary.sine.to_host<double>();
      EXPECT_EQ(keys.size(), 2 * positions.size());
      for (std::size_t i = 0; i < positions.size(); ++i) {
        const auto x = static_cast<double>(positions[i]);
        EXPECT_EQ(keys[2 * i], x);
        EXPECT_EQ(keys[2 * i + 1], x + 0.5);
        EXPECT_EQ(values[2 * i], -x);
        EXPECT_EQ(sine[i], x / 2);
      }
    }
    EXPECT_EQ(cache.rows()->tokens.sequences.at(0).count, cache.rows()->tokens.rows());
    return positions;
  }

  std::unique_ptr<Backend> backend = make_reference_backend();
  KeyValueCache cache{backend->runtime(), 2, 2, Dtype::f64};
};

std::vector<std::int64_t> range(std::int64_t first, std::int64_t end) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(end - first));
  std::iota(out.begin(), out.end(), first);
  return out;
}

TEST_F(CacheTest, KeepsEverythingWhenAsked) {
  for (std::int64_t first = 0; first < 40; first += 5) feed(first, 5, {});
  EXPECT_EQ(held(), range(0, 40));
}

TEST_F(CacheTest, ForgetsWhatNobodySees) {
  feed(0, 8, {});
  feed(8, 8, {.sinks_begin = 0, .sinks_end = 0, .first = 6});
  EXPECT_EQ(held(), range(6, 16));
}

TEST_F(CacheTest, KeepsSinksAndWindow) {
  feed(0, 10, {});
  feed(10, 4, {.sinks_begin = 1, .sinks_end = 3, .first = 8});
  EXPECT_EQ(held(), (std::vector<std::int64_t>{1, 2, 8, 9, 10, 11, 12, 13}));
}

TEST_F(CacheTest, SinksThatReachIntoTheWindowCountOnce) {
  feed(0, 10, {});
  feed(10, 2, {.sinks_begin = 4, .sinks_end = 9, .first = 6});
  EXPECT_EQ(held(), range(4, 12));
}

TEST_F(CacheTest, TokenByTokenStaysBounded) {
  for (std::int64_t n = 0; n < 1000; ++n) {
    feed(n, 1, {.sinks_begin = 0, .sinks_end = 0, .first = n - 19});
    ASSERT_LE(cache.rows()->tokens.rows(), 32);
  }
  const auto positions = held();
  EXPECT_EQ(positions, range(1000 - static_cast<std::int64_t>(positions.size()), 1000));
  EXPECT_GE(positions.size(), 20U);
}

TEST_F(CacheTest, MemoryDoesNotGrowWithLength) {
  std::size_t early = 0;
  for (std::int64_t n = 0; n < 4000; n += 40) {
    feed(n, 40, {.sinks_begin = 0, .sinks_end = 0, .first = n - 40});
    if (n == 400) early = backend->runtime().memory().current;
  }
  EXPECT_LE(backend->runtime().memory().current, early);
}

/// As precise a million tokens on as at the start, in f32 too: chunk by chunk, with nothing kept between chunks.
TEST_F(CacheTest, SumsOfAForgetGateGoOnAtAMillionTokens) {
  const auto cpu = make_cpu_backend();
  KeyValueCache long_cache(cpu->runtime(), 1, 1, Dtype::f32);
  const std::int64_t chunk = 1000, chunks = 1000;
  double total = 0;  // of log f of all tokens before
  for (std::int64_t n = 0; n < chunks; ++n) {
    TokenTable tokens{{{0, 0, chunk}}, range(n * chunk, (n + 1) * chunk)};
    std::vector<float> logits;
    for (std::int64_t i = 0; i < chunk; ++i) logits.push_back(static_cast<float>((n * chunk + i) % 7) - 5);
    long_cache.begin_chunk(*make_rows(tokens, {}), {.sinks_begin = 0, .sinks_end = 0, .first = n * chunk});
    const auto sums =
        long_cache.append_gates(0, *cpu, Tensor::from(cpu->runtime(), {chunk, 1}, logits)).to_host<float>();
    ASSERT_EQ(sums.size(), static_cast<std::size_t>(2 * chunk));
    const double before = total;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      total -= std::log1p(std::exp(-static_cast<double>(logits[i])));
      const double in_chunk = (static_cast<double>(sums[2 * i]) - static_cast<double>(sums[0])) +
                              (static_cast<double>(sums[2 * i + 1]) - static_cast<double>(sums[1]));
      const double expected = total - before + std::log1p(std::exp(-static_cast<double>(logits[0])));
      ASSERT_NEAR(in_chunk, expected, 2e-7 * (1 - expected)) << "row " << i << " of chunk " << n;
    }
    ASSERT_NEAR(static_cast<double>(sums[sums.size() - 2]) + static_cast<double>(sums.back()), total, -2e-7 * total);
  }
  EXPECT_LT(total, -2e6);
}

TEST_F(CacheTest, RefusesWhatDoesNotFollow) {
  feed(0, 4, {});
  EXPECT_THROW(feed(3, 4, {}), Error);
  EXPECT_THROW(cache.begin_chunk(*make_rows(dense_tokens(2, 3), {}), {}), Error);
}

}  // namespace
}  // namespace lexring
