#include "parallel/data/row_shares.h"

#include <map>

#include <gtest/gtest.h>

#include "tests/parallel/data/data_testing.h"

namespace lexring {
namespace {

class RowShares : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend = make_cpu_backend();
};

TEST_F(RowShares, EveryRowHasOneOwner) {
  LaidOut model(*backend,
                {{"big", {257, 300}}, {"wide", {3, 40000}}, {"a", {10}}, {"b", {30}}, {"c", {20}}, {"d", {10}}});
  for (const int replicas : {1, 2, 3, 4, 7}) {
    std::map<std::size_t, std::vector<int>> owners;
    for (const Parameter& p : model.parameters())
      owners[owners.size()].resize(static_cast<std::size_t>(p.value.rows()), 0);
    for (const auto& mine : share_rows(model.parameters(), replicas)) {
      for (const RowShare& share : mine) {
        EXPECT_GT(share.count, 0);
        for (std::int64_t row = 0; row < share.count; ++row)
          ++owners[share.parameter].at(static_cast<std::size_t>(share.first + row));
      }
    }
    for (const auto& [parameter, rows] : owners)
      EXPECT_EQ(rows, std::vector<int>(rows.size(), 1)) << parameter << " of " << replicas;
  }
}

TEST_F(RowShares, BigOnesAreCutEvenlySmallOnesBalanced) {
  LaidOut model(*backend, {{"big", {257, 300}}, {"a", {10}}, {"b", {30}}, {"c", {20}}, {"d", {10}}});
  const auto shares = share_rows(model.parameters(), 2);
  ASSERT_EQ(shares[0].size(), 3U);  // big, b, then d, for a went to the other by its name
  EXPECT_EQ(shares[0][0].count, 128);
  EXPECT_EQ(shares[1][0].first, 128);
  EXPECT_EQ(shares[1][0].count, 129);
  EXPECT_EQ(shares[0][1].parameter, 2U);
  EXPECT_EQ(shares[0][2].parameter, 4U);
}

TEST_F(RowShares, AreParametersOfTheirOwn) {
  LaidOut model(*backend, {{"big", {257, 300}}});
  const Parameter rows = rows_of(model.parameters()[0], {0, 100, 7});
  EXPECT_EQ(rows.offset, (Shape{100, 0}));
  EXPECT_EQ(rows.full_shape, (Shape{257, 300}));
  EXPECT_EQ(rows.value.shape(), (Shape{7, 300}));
  EXPECT_EQ(rows.gradient.raw(), model.parameters()[0].gradient.slice(100, 1).raw());
}

}  // namespace
}  // namespace lexring
