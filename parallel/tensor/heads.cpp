#include "parallel/tensor/heads.h"

namespace lexring {

AttentionSpec own_heads(AttentionSpec whole, const Communicator& group) {
  const int ranks = group.size();
  const int shares = key_value_shares(whole.kv_heads, ranks);
  require(whole.heads % ranks == 0 && whole.kv_heads % shares == 0 && ranks % shares == 0,
          "{} query heads and {} key and value heads cannot be cut for {} ranks", whole.heads, whole.kv_heads, ranks);
  const std::int64_t heads = whole.heads / ranks;
  if (!whole.slopes.empty()) {
    const auto first = whole.slopes.begin() + group.rank() * heads;
    whole.slopes = {first, first + heads};
  }
  whole.heads = heads;
  whole.kv_heads /= shares;
  return whole;
}

}  // namespace lexring
