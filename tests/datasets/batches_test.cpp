#include "datasets/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

std::string letters(std::size_t n, char first) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text.push_back(static_cast<char>(first + static_cast<char>(i % 20)));
  return text;
}

TEST(KeyedPermutation, IsABijectionOfEverySize) {
  for (std::uint64_t size = 1; size < 1100; size = size < 70 ? size + 1 : size * 5 / 4) {
    for (const std::uint64_t key : {0ull, 1ull, 0xdeadbeefcafe0000ull}) {
      const KeyedPermutation permutation(size, key);
      std::vector<bool> seen(size, false);
      for (std::uint64_t i = 0; i < size; ++i) {
        const auto to = permutation(i);
        ASSERT_LT(to, size);
        ASSERT_FALSE(seen[to]) << size << " " << key;
        seen[to] = true;
      }
    }
  }
  EXPECT_THROW(KeyedPermutation(0, 1), Error);
  EXPECT_THROW(KeyedPermutation(5, 1)(5), Error);
}

TEST(KeyedPermutation, WorksForSizesBeyondMemory) {
  const std::uint64_t size = (std::uint64_t{1} << 62) + 12345;
  const KeyedPermutation permutation(size, 3);
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) seen.insert(permutation(size - 1 - i));
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_LT(*seen.rbegin(), size);
}

TEST(KeyedPermutation, LooksRandom) {
  // Pearson's correlation of index and place, 8 standard deviations wide; and few fixed points (1 expected) or
  // neighbours that stay neighbours (2).
  const std::uint64_t size = 10000;
  for (const std::uint64_t key : {1ull, 2ull, 3ull}) {
    const KeyedPermutation permutation(size, key);
    double sum = 0;
    int fixed = 0, neighbours = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      sum += (static_cast<double>(i) - 4999.5) * (static_cast<double>(permutation(i)) - 4999.5);
      fixed += permutation(i) == i;
      neighbours +=
          i > 0 && std::max(permutation(i), permutation(i - 1)) - std::min(permutation(i), permutation(i - 1)) == 1;
    }
    EXPECT_LT(std::abs(sum / (1e12 / 12)), 0.08);
    EXPECT_LT(fixed, 10);
    EXPECT_LT(neighbours, 15);
  }
}

TEST(Sampler, AnEpochVisitsEveryWindowOnceInItsOwnOrder) {
  TempDirectory directory;
  const auto dataset = make_dataset(directory, {letters(1000, 'a')});  // 1001 tokens
  const Sampler sampler(dataset, 10, 5, Documents::ignore), other_seed(dataset, 10, 6, Documents::ignore);
  ASSERT_EQ(sampler.windows(), 100);
  std::vector<std::vector<std::int64_t>> epochs(2);
  for (std::uint64_t e = 0; e < 2; ++e) {
    for (std::uint64_t i = 0; i < 100; ++i) epochs[e].push_back(sampler.window(e * 100 + i));
    auto sorted = epochs[e];
    std::sort(sorted.begin(), sorted.end());
    for (std::int64_t w = 0; w < 100; ++w) EXPECT_EQ(sorted[static_cast<std::size_t>(w)], w);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  std::vector<std::int64_t> other;
  for (std::uint64_t i = 0; i < 100; ++i) other.push_back(other_seed.window(i));
  EXPECT_NE(other, epochs[0]);
}

TEST(Sampler, WindowsAreInputsAndShiftedTargets) {
  TempDirectory directory;
  const auto dataset = make_dataset(directory, {letters(99, 'a')});  // 100 tokens
  const auto tokens = all_tokens(dataset);
  const Sampler sampler(dataset, 33, 1, Documents::ignore);
  ASSERT_EQ(sampler.windows(), 3);
  const auto batch = sampler.batch(0, 3);
  ASSERT_EQ(batch.tokens.size(), 99u);
  for (std::int64_t s = 0; s < 3; ++s) {
    for (std::int64_t t = 0; t < 33; ++t) {
      const auto place = static_cast<std::size_t>(s * 33 + t),
                 from = static_cast<std::size_t>(sampler.window(static_cast<std::uint64_t>(s)) * 33 + t);
      EXPECT_EQ(batch.tokens[place], tokens[from]);
      EXPECT_EQ(batch.targets[place], tokens[from + 1]);
      EXPECT_EQ(batch.document_start[place], 0);
    }
  }
}

TEST(Sampler, BatchesArePureAndReplicasTileTheGlobalBatch) {
  TempDirectory directory;
  const auto dataset = make_dataset(directory, {letters(700, 'a'), letters(5, 'A'), letters(1300, 'A')});
  const Sampler sampler(dataset, 16, 9, Documents::mask), again(dataset, 16, 9, Documents::mask);
  const std::int64_t global = 12;
  for (const std::uint64_t step : {0ull, 7ull, 20ull, 1000000ull}) {  // 20: across the end of an epoch
    const auto whole = sampler.batch(step * 12, global);
    for (const std::int64_t replicas : {1, 2, 3, 4}) {
      const auto share = global / replicas;
      TokenBatch tiled;
      for (std::int64_t r = replicas - 1; r >= 0; --r) {  // in any order of asking
        const auto part = again.batch(step * 12 + static_cast<std::uint64_t>(r * share), share);
        tiled.tokens.insert(tiled.tokens.begin(), part.tokens.begin(), part.tokens.end());
        tiled.targets.insert(tiled.targets.begin(), part.targets.begin(), part.targets.end());
        tiled.document_start.insert(tiled.document_start.begin(), part.document_start.begin(),
                                    part.document_start.end());
      }
      EXPECT_EQ(tiled.tokens, whole.tokens);
      EXPECT_EQ(tiled.targets, whole.targets);
      EXPECT_EQ(tiled.document_start, whole.document_start);
    }
  }
}

TEST(Sampler, DocumentsInAWindow) {
  TempDirectory directory;
  const auto dataset =
      make_dataset(directory, {"abc", "d", "efghij"});  // a b c E d E e f g h i j E: documents at 0, 4, 6; 13 tokens
  const auto masked = read_windows(dataset, 1, 2, 6, Documents::mask);
  EXPECT_EQ(masked.tokens, (std::vector<std::int32_t>{'b', 'c', 256, 'd', 256, 'e', 'f', 'g', 'h', 'i', 'j', 256}));
  EXPECT_EQ(masked.targets, (std::vector<std::int32_t>{'c', 256, -1, 256, -1, 'f', 'g', 'h', 'i', 'j', 256, -1}));
  EXPECT_EQ(masked.document_start, (std::vector<std::int64_t>{0, 0, 0, 3, 3, 5, 0, 0, 0, 0, 0, 0}));
  const auto ignored = read_windows(dataset, 1, 2, 6, Documents::ignore);
  EXPECT_EQ(ignored.targets, (std::vector<std::int32_t>{'c', 256, 'd', 256, 'e', 'f', 'g', 'h', 'i', 'j', 256, -1}));
  EXPECT_EQ(ignored.document_start, std::vector<std::int64_t>(12, 0));
  // The end of a document on the last place of a window, with more of the stream behind it.
  const auto edge = read_windows(dataset, 0, 1, 4, Documents::mask);
  EXPECT_EQ(edge.targets, (std::vector<std::int32_t>{'b', 'c', 256, -1}));
  // Without ends nothing is asked but text.
  const DocumentUse without_ends{Documents::mask, EndOfDocument::none};
  for (std::int64_t length = 1; length <= 13; ++length) {
    for (std::int64_t first = 0; first + length <= 13; ++first) {
      const auto window = read_windows(dataset, first, 1, length, without_ends);
      auto expected = read_windows(dataset, first, 1, length, Documents::mask).targets;
      std::replace(expected.begin(), expected.end(), 256, -1);
      EXPECT_EQ(window.targets, expected) << first << " + " << length;
    }
  }
  // Every window of every place and length agrees with document_start().
  for (std::int64_t length = 1; length <= 13; ++length) {
    for (std::int64_t first = 0; first + length <= 13; ++first) {
      const auto window = read_windows(dataset, first, 1, length, Documents::mask);
      for (std::int64_t t = 0; t < length; ++t) {
        EXPECT_EQ(window.document_start[static_cast<std::size_t>(t)],
                  std::max<std::int64_t>(0, dataset.document_start(first + t) - first));
        EXPECT_EQ(window.targets[static_cast<std::size_t>(t)] == -1, window.tokens[static_cast<std::size_t>(t)] == 256);
      }
    }
  }
}

TEST(Sampler, CorpusShorterThanOneWindow) {
  TempDirectory directory;
  const auto dataset = make_dataset(directory, {letters(49, 'a')});  // 50 tokens
  EXPECT_EQ(Sampler(dataset, 49, 1, Documents::mask).windows(), 1);
  expect_says(error_of([&] { Sampler(dataset, 50, 1, Documents::mask); }), "corpus.h5", "50 tokens", "train.length",
              "at most 49", "longer corpus");
  expect_says(error_of([&] { Sampler(dataset, 0, 1, Documents::mask); }), "train.length = 0");
  expect_says(error_of([&] { read_windows(dataset, 10, 2, 21, Documents::mask); }), "corpus.h5", "50 tokens",
              "at most 40");
}

}  // namespace
}  // namespace lexring::testing
