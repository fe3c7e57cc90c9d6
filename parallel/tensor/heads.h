/// Attention heads cut over a tensor-parallel group.
#pragma once

#include "framework/attention/form.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// The number of parts that key and value heads are cut into: as many as ranks, or, where there are fewer heads than
/// ranks, one per head, each held by several ranks.
inline int key_value_shares(std::int64_t kv_heads, int ranks) {
  return kv_heads < ranks ? static_cast<int>(kv_heads) : ranks;
}

/// The form of this rank's H / R query heads [H r / R, H (r + 1) / R) and the key and value heads that they read. R
/// must divide H, and divide K or be divided by it.
AttentionForm own_heads(AttentionForm whole, const Communicator& group);

}  // namespace lexring
