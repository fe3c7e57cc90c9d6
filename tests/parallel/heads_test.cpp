#include "parallel/heads.h"

#include <gtest/gtest.h>

#include "framework/base/error.h"

namespace lexring {
namespace {

AttentionForm form(std::int64_t heads, std::int64_t kv_heads) {
  AttentionForm form;
  form.heads = heads;
  form.kv_heads = kv_heads;
  form.head_width = 8;
  return form;
}

TEST(Heads, FitWhereRanksDivideThemOrShareKeyHeads) {
  EXPECT_TRUE(heads_fit(12, 4, 2));
  EXPECT_TRUE(heads_fit(12, 4, 12));
  EXPECT_TRUE(heads_fit(12, 1, 3));
  EXPECT_FALSE(heads_fit(12, 4, 8)) << "query heads";
  EXPECT_FALSE(heads_fit(12, 4, 6)) << "key heads";
  EXPECT_THROW(head_share(form(12, 4), 0, 6), Error);
}

/// Every query head is one rank's, and that rank has the key head it reads, in the order in which it reads them.
TEST(Heads, EveryRankHasTheKeyHeadsThatItsQueryHeadsRead) {
  for (const auto& [heads, kv_heads] : {std::pair{12, 12}, {12, 4}, {12, 2}, {12, 1}}) {
    const AttentionForm whole = form(heads, kv_heads);
    for (int ranks = 1; ranks <= heads; ++ranks) {
      if (!heads_fit(heads, kv_heads, ranks)) continue;
      std::int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const HeadShare share = head_share(whole, rank, ranks);
        const AttentionForm own = form_of(whole, share);
        EXPECT_EQ(share.first, next);
        EXPECT_EQ(own.heads, heads / ranks);
        EXPECT_EQ(own.head_width, 8);
        for (std::int64_t h = 0; h < own.heads; ++h)
          EXPECT_EQ(share.kv_first + h / own.group(), (share.first + h) / whole.group());
        EXPECT_EQ(share.kv_first, share.kv_heads * (rank * kv_head_parts(kv_heads, ranks) / ranks));
        next += share.heads;
      }
      EXPECT_EQ(next, heads);
    }
  }
}

}  // namespace
}  // namespace lexring
