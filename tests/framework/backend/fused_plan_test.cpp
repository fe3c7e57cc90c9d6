// Plans of fused attention calls: they meet exactly the pairs that queries see, in as few calls as hoped for.
#include "framework/backend/cuda/fused_plan.h"

#include <map>

#include <gtest/gtest.h>

#include "framework/attention/tiling.h"
#include "tests/framework/backend/attention_problem.h"

namespace lexring::cuda {
namespace {

using testing::clusters;
using testing::consecutive;
using testing::make_form;
using testing::make_table;
using testing::make_visibility;

using Plan = std::optional<std::vector<FusedCall>>;

Plan plan(const std::string& method, const std::string& pattern, std::int64_t extent, const TokenTable& tokens) {
  return plan_fused(make_form(method, 2, 1, 32), tokens, tokens, make_visibility(pattern, extent, tokens));
}

/// Pairs (query, key) and how many calls meet them.
using Pairs = std::map<std::pair<std::int64_t, std::int64_t>, int>;

Pairs pairs_of(const std::vector<FusedCall>& calls) {
  Pairs pairs;
  for (const FusedCall& c : calls) {
    EXPECT_TRUE(c.mask == FusedMask::none || c.queries == c.keys);
    EXPECT_TRUE(c.batch == 1 || (c.query_step >= c.queries && c.key_step >= c.keys));
    for (std::int64_t b = 0; b < c.batch; ++b)
      for (std::int64_t n = 0; n < c.queries; ++n)
        for (std::int64_t m = 0; m < c.keys; ++m) {
          if (c.mask == FusedMask::causal && (m > n || (c.window > 0 && m <= n - c.window))) continue;
          ++pairs[{c.query_first + b * c.query_step + n, c.key_first + b * c.key_step + m}];
        }
  }
  return pairs;
}

Pairs seen_pairs(const TokenTable& queries, const TokenTable& keys, const Visibility& visible) {
  Pairs pairs;
  const Ranges ranges = make_ranges(queries, keys, visible, {});
  for (std::int64_t n = 0; n < queries.rows(); ++n) {
    const RowRange& range = ranges.rows[static_cast<std::size_t>(n)];
    for (std::int64_t m = range.first; m < range.last; ++m) pairs[{n, m}] = 1;
  }
  return pairs;
}

TEST(FusedPlan, MeetsWhatIsSeenAndNothingElse) {
  const TokenTable unequal = make_table({{0, consecutive(90)}, {2, consecutive(1)}, {3, consecutive(37)}}),
                   far = make_table({{0, clusters({16300, 32660, 65350}, 70)}}),
                   striped_queries = make_table({{0, clusters({1, 5, 9, 13, 17, 21}, 1)}}),
                   striped_keys = make_table({{0, clusters({2, 6, 10, 14, 18, 22}, 1)}}),
                   later = make_table({{0, consecutive(30, 60)}, {4, consecutive(5)}}),
                   cached = make_table({{0, consecutive(80)}, {1, consecutive(17)}, {4, consecutive(5)}});
  int planned = 0;
  for (const char* method : {"none", "xpos", "steep"})
    for (const char* pattern : {"causal", "window", "blockwise", "documents", "holes"})
      for (const auto& [queries, keys] :
           {std::pair(unequal, unequal), std::pair(far, far), std::pair(striped_queries, striped_keys),
            std::pair(striped_keys, striped_queries), std::pair(later, cached)}) {
        SCOPED_TRACE(std::string(method) + " " + pattern);
        const Visibility visible = make_visibility(pattern, 20, queries);
        const Plan calls = plan_fused(make_form(method, 2, 1, 32), queries, keys, visible);
        if (!calls) continue;
        ++planned;
        EXPECT_EQ(pairs_of(*calls), seen_pairs(queries, keys, visible));
      }
  EXPECT_GE(planned, 40);
}

TEST(FusedPlan, TakesFewCalls) {
  const FusedCall square{
      .batch = 3, .queries = 256, .query_step = 256, .keys = 256, .key_step = 256, .mask = FusedMask::causal};
  EXPECT_EQ(plan("xpos", "causal", 0, dense_tokens(3, 256)), std::vector{square});
  FusedCall window = square;
  window.window = 64;
  EXPECT_EQ(plan("none", "window", 64, dense_tokens(3, 256)), std::vector{window});
  const Plan blockwise = plan("xpos", "blockwise", 64, dense_tokens(1, 512));
  ASSERT_TRUE(blockwise);
  ASSERT_EQ(blockwise->size(), 3U);  // six blocks before, as many own ones, and the first two, which are causal
  const FusedCall before{
      .batch = 6, .query_first = 128, .queries = 64, .query_step = 64, .key_first = 64, .keys = 64, .key_step = 64};
  FusedCall own = before;
  own.key_first = 128, own.mask = FusedMask::causal;
  EXPECT_EQ((*blockwise)[0], before);
  EXPECT_EQ((*blockwise)[1], own);
  EXPECT_EQ((*blockwise)[2].queries, 128);
  // Decay spans of 32,695 positions: a causal call each, and one for all that comes after it.
  const Plan far = plan("xpos", "causal", 0, dense_tokens(1, 65000));
  ASSERT_TRUE(far);
  ASSERT_EQ(far->size(), 3U);
  EXPECT_EQ((*far)[0], (FusedCall{.query_first = 32695, .queries = 65000 - 32695, .keys = 32695, .base = 32695}));
  EXPECT_EQ(plan("none", "causal", 0, dense_tokens(1, 65000))->size(), 1U);
}

TEST(FusedPlan, RefusesWhatDoesNotPay) {
  EXPECT_FALSE(plan("none", "sink_window", 64, dense_tokens(1, 256)));
  const TokenTable gaps = make_table({{0, testing::with_gaps(200, 9, 3)}});
  EXPECT_FALSE(plan("none", "window", 20, gaps));  // windows of ever changing numbers of rows
  EXPECT_EQ(plan("xpos", "causal", 0, gaps)->size(), 1U);
}

}  // namespace
}  // namespace lexring::cuda
