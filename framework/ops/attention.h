/// Attention of one device: one block of queries against one block of keys (framework/attention/block.h).
#pragma once

#include <memory>

#include "framework/autograd/tape.h"

namespace lexring {

/// What all layers of a pass share: the specification, and tables of the rows at hand.
struct AttentionTables {
  AttentionSpec spec;
  TokenTable tokens;
  RotaryTable rotary;  ///< undefined tensors without rotation
  Visibility visible;
};

/// Columns of a fused product [N, (H + 2K) E]: query, then key, then value.
struct QueryKeyValue {
  Columns query, key, value;
};
QueryKeyValue split_columns(const AttentionSpec& spec, const Tensor& qkv);

/// [N, H E] = attention of the rows to themselves. Adjoint: dqkv, with scores recomputed from the log-sum-exp.
Var attention(Tape& tape, const std::shared_ptr<const AttentionTables>& tables, const Var& qkv);

/// Past and current rows, where keys and values come from a cache.
struct CachedKeys {
  const TokenTable& tokens;
  const RotaryTable& rotary;
  Tensor keys, values;  ///< [M, K E]
};

/// [N, H E] = attention of `query` [N, H E] to cached keys. Nothing is recorded: caches are for evaluation.
Tensor attention_to_cache(Backend& backend, const AttentionTables& queries, const Columns& query,
                          const CachedKeys& cached);

}  // namespace lexring
