#include "parallel/tensor/heads.h"

#include "framework/base/error.h"

namespace lexring {

AttentionForm own_heads(AttentionForm whole, const Communicator& group) {
  const int ranks = group.size();
  const int shares = key_value_shares(whole.kv_heads, ranks);
  require(whole.heads % ranks == 0 && whole.kv_heads % shares == 0 && ranks % shares == 0,
          "{} query heads and {} key and value heads cannot be cut for {} ranks", whole.heads, whole.kv_heads, ranks);
  whole.heads /= ranks;
  whole.kv_heads /= shares;
  return whole;
}

}  // namespace lexring
