#include "parallel/heads.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {

bool heads_fit(std::int64_t heads, std::int64_t kv_heads, std::int64_t ranks) {
  return heads % ranks == 0 && (kv_heads % ranks == 0 || ranks % kv_heads == 0);
}

std::int64_t kv_heads_of_rank(std::int64_t kv_heads, std::int64_t ranks) {
  return std::max<std::int64_t>(kv_heads / ranks, 1);
}

int kv_head_parts(std::int64_t kv_heads, int ranks) { return kv_heads < ranks ? static_cast<int>(kv_heads) : ranks; }

HeadShare head_share(const AttentionForm& whole, int rank, int ranks) {
  require(heads_fit(whole.heads, whole.kv_heads, ranks),
          "{} query heads and {} key and value heads cannot be cut for {} ranks", whole.heads, whole.kv_heads, ranks);
  const std::int64_t heads = whole.heads / ranks, first = rank * heads;
  return {first, heads, first / whole.group(), kv_heads_of_rank(whole.kv_heads, ranks)};
}

AttentionForm form_of(AttentionForm whole, const HeadShare& share) {
  whole.heads = share.heads;
  whole.kv_heads = share.kv_heads;
  return whole;
}

}  // namespace lexring
