#include "framework/base/random.h"

#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace lexring {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The known answers published with Random123 (kat_vectors, philox4x32, 10 rounds).
TEST(Random, PhiloxGivesThePublishedAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, StreamIdsAreFnv1a) {
  EXPECT_EQ(stream_id(""), 0xcbf29ce484222325U);
  EXPECT_EQ(stream_id("a"), 0xaf63dc4c8601ec8cU);
  EXPECT_EQ(stream_id("foobar"), 0x85944171f73967e8U);
}

TEST(Random, BitsAreThoseOfOneBlock) {
  EXPECT_EQ(random_bits(0, 0, 0), 0xe169c58d6627e8d5U);
  EXPECT_EQ(random_bits(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88), 0x94fdccebd16cfe09U);
}

TEST(Random, SeedStreamAndIndexAllMatter) {
  std::set<std::uint64_t> seen;
  for (const std::uint64_t high : {0ULL, 1ULL << 40}) {
    for (std::uint64_t i = 0; i < 100; ++i) {
      seen.insert(random_bits(high + i + 1, 0, 0));
      seen.insert(random_bits(0, high + i + 1, 0));
      seen.insert(random_bits(0, 0, high + i + 1));
    }
  }
  EXPECT_EQ(seen.size(), 600U);
}

TEST(Random, NormalHasTheMomentsOfANormal) {
  constexpr int count = 200000;
  double moments[4] = {};
  for (int i = 0; i < count; ++i) {
    const double x = random_normal(7, stream_id("normal"), static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    for (int k = 0; k < 4; ++k) moments[k] += std::pow(x, k + 1) / count;
  }
  EXPECT_NEAR(moments[0], 0, 4 * std::sqrt(1.0 / count));
  EXPECT_NEAR(moments[1], 1, 4 * std::sqrt(2.0 / count));
  EXPECT_NEAR(moments[2], 0, 4 * std::sqrt(15.0 / count));
  EXPECT_NEAR(moments[3], 3, 4 * std::sqrt(96.0 / count));
}

// Beginnings that are no multiple of a vector, and the border at which the counter's second word changes.
TEST(Random, ManyNormalsAreThoseDrawnOneByOne) {
  const std::uint64_t stream = stream_id("normal");
  for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{12345}, (std::uint64_t{1} << 32) - 501}) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{257}, std::size_t{200000}}) {
      std::vector<float> singles(count);
      std::vector<double> doubles(count);
      random_normals(7, stream, first, 0.02, singles);
      random_normals(7, stream, first, 0.02, doubles);
      for (std::size_t i = 0; i < count; ++i) {
        const double expected = 0.02 * random_normal(7, stream, first + i);
        ASSERT_EQ(doubles[i], expected) << first + i;
        ASSERT_EQ(std::bit_cast<std::uint32_t>(singles[i]), std::bit_cast<std::uint32_t>(static_cast<float>(expected)))
            << first + i;
      }
    }
  }
}

TEST(Random, NormalsOfNoDeviationAreTheZerosDrawnOneByOne) {
  std::vector<float> zeros(300);
  random_normals(7, 1, 0, 0.0, zeros);
  for (std::size_t i = 0; i < zeros.size(); ++i) {
    EXPECT_EQ(zeros[i], 0);
    EXPECT_EQ(std::signbit(zeros[i]), std::signbit(0.0 * random_normal(7, 1, i)));
  }
}

}  // namespace
}  // namespace lexring
