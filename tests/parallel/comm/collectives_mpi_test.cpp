// Run under mpirun with several numbers of ranks; each rank computes what all should have, and compares.
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "framework/base/error.h"
#include "framework/base/random.h"
#include "parallel/context.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

using testing::world;

// Below and above what travels with the announcement, not divisible by the ranks, more than one block.
constexpr std::size_t lengths[] = {0, 1, 3, 27, 28, 56, 57, 1000, 300001};

template <class T>
std::vector<T> values_of(int rank, std::size_t count) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const auto stream = static_cast<std::uint64_t>(rank);
    if constexpr (std::is_integral_v<T>) values[i] = static_cast<T>(random_bits(5, stream, index)) >> 8;
    else values[i] = static_cast<T>(std::exp(8 * random_normal(5, stream, index)) * (i % 2 ? 1 : -1));
  }
  return values;
}

/// In the order of the ranks, as the header promises: bits are compared.
template <class T>
std::vector<T> expected(std::size_t count, Reduce op) {
  auto result = values_of<T>(0, count);
  for (int rank = 1; rank < world()->size(); ++rank) {
    const auto other = values_of<T>(rank, count);
    for (std::size_t i = 0; i < count; ++i)
      result[i] = op == Reduce::sum   ? result[i] + other[i]
                  : op == Reduce::max ? std::max(result[i], other[i])
                                      : std::min(result[i], other[i]);
  }
  return result;
}

template <class T>
class AllReduce : public ::testing::Test {};
using Types = ::testing::Types<float, double, std::int64_t>;
TYPED_TEST_SUITE(AllReduce, Types, );

TYPED_TEST(AllReduce, AddsInTheOrderOfTheRanks) {
  for (const Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
    for (const std::size_t count : lengths) {
      auto values = values_of<TypeParam>(world()->rank(), count);
      world()->all_reduce(values, op);
      ASSERT_EQ(values, expected<TypeParam>(count, op)) << count << " values";
    }
  }
}

TEST(Collectives, NanIsNeverLost) {
  for (const Reduce op : {Reduce::sum, Reduce::max, Reduce::min}) {
    for (int at = 0; at < world()->size(); ++at) {
      std::vector<double> values = {1, world()->rank() == at ? std::nan("") : 2};
      world()->all_reduce(values, op);
      EXPECT_FALSE(std::isnan(values[0]));
      EXPECT_TRUE(std::isnan(values[1]));
    }
  }
}

TEST(Collectives, BroadcastFromEveryRank) {
  for (int root = 0; root < world()->size(); ++root) {
    for (const std::size_t count : {0UL, 5UL, 224UL, 225UL, (1UL << 24) + 3}) {
      std::vector<std::byte> values(count, static_cast<std::byte>(world()->rank() + 1));
      world()->broadcast(values, root);
      ASSERT_EQ(values, std::vector<std::byte>(count, static_cast<std::byte>(root + 1)));
    }
  }
}

TEST(Collectives, AllGatherOfDifferentSizes) {
  for (const std::size_t base : {0UL, 10UL, 1000UL, 9UL << 20}) {
    const auto of = [&](int rank) {
      return std::vector<std::byte>(base * static_cast<std::size_t>(rank) + (rank == 2 ? 1 : 0),
                                    static_cast<std::byte>(rank + 1));
    };
    const auto all = world()->all_gather(of(world()->rank()));
    ASSERT_EQ(static_cast<int>(all.size()), world()->size());
    for (int rank = 0; rank < world()->size(); ++rank) ASSERT_EQ(all[static_cast<std::size_t>(rank)], of(rank));
  }
}

TEST(Collectives, SplitKeepsTheOrderOfRanks) {
  const auto group = world()->split("parity", world()->rank() % 2);
  EXPECT_EQ(group->name(), "parity");
  EXPECT_EQ(group->rank(), world()->rank() / 2);
  std::vector<std::int64_t> sum = {world()->rank()};
  group->all_reduce(sum, Reduce::sum);
  std::int64_t should = 0;
  for (int rank = world()->rank() % 2; rank < world()->size(); rank += 2) should += rank;
  EXPECT_EQ(sum[0], should);
}

TEST(Collectives, MismatchIsAnErrorOnEveryRankNotAHang) {
  if (world()->size() == 1) return;  // nobody to disagree with: nothing to test, not a test left out
  const auto group = world()->split("mismatch", 0);
  std::vector<float> values(group->rank() == 0 ? 1000 : 1001);
  try {
    group->all_reduce(values, Reduce::sum);
    FAIL() << "sizes differ";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("group mismatch"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("all_reduce of 4000 bytes (call 1)"), std::string::npos) << error.what();
  }
}

TEST(Context, AxesAreTheMeshesRowsAndColumns) {
  const int ranks = world()->size();
  const int tp = ranks % 2 == 0 ? 2 : 1;
  const Context context(world(), make_mesh(ranks, 0, 1, tp));
  for (const Axis axis : axes) {
    EXPECT_EQ(context.axis(axis).size(), context.mesh().size(axis));
    EXPECT_EQ(context.axis(axis).rank(), context.mesh().coordinate(world()->rank(), axis));
    std::vector<std::int64_t> coordinate_sum = {world()->rank()};
    context.axis(axis).all_reduce(coordinate_sum, Reduce::sum);
    std::int64_t should = 0;
    for (int other = 0; other < ranks; ++other) {
      bool same = true;
      for (const Axis fixed : axes)
        same = same && (fixed == axis ||
                        context.mesh().coordinate(other, fixed) == context.mesh().coordinate(world()->rank(), fixed));
      if (same) should += other;
    }
    EXPECT_EQ(coordinate_sum[0], should);
  }
}

}  // namespace
}  // namespace lexring
