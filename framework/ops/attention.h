/// Attention of one device (framework/attention/call.h): rows that see each other, or rows that see a cache.
#pragma once

#include "framework/autograd/tape.h"

namespace lexring {

/// Columns of a fused product [N, (H + 2K) E]: query, then key, then value.
struct QueryKeyValue {
  Columns query, key, value;
};
QueryKeyValue split_columns(const AttentionForm& form, const Tensor& qkv);
/// Key and value columns together, which lie side by side: 2 K E of them.
Columns key_value_columns(const AttentionForm& form, const Tensor& qkv);

/// A score bias on the tape: slopes, and a table by distance [H, distances] that operations before made.
struct BiasTerms {
  std::vector<float> slopes;  ///< [H] or empty
  Var by_distance;            ///< undefined: none

  ScoreBias value() const { return {slopes, by_distance.defined() ? by_distance.value() : Tensor()}; }
};

/// The terms of heads [first, first + count). Adjoint: the gradient of the table, 0 for other heads.
BiasTerms slice_heads(Tape& tape, const BiasTerms& bias, std::int64_t first, std::int64_t count);

/// Zeros in the shape of the bias's table, for AttentionBackward::dby_distance; undefined where it has none.
Tensor begin_bias_gradient(Backend& backend, const ScoreBias& bias);

/// [N, H E] = attention of the rows to themselves. Adjoint: dqkv, with scores recomputed from the log-sum-exp, and the
/// gradient of bias.by_distance.
Var attention(Tape& tape, const AttentionForm& form, const SharedRows& rows, const BiasTerms& bias, const Var& qkv);

/// Past and current rows, where keys and values come from a cache.
struct CachedKeys {
  SharedRows rows;
  Tensor keys, values;  ///< [M, K E]
};

/// [N, H E] = attention of `query` [N, H E] to cached keys. Nothing is recorded: caches are for evaluation.
Tensor attention_to_cache(Backend& backend, const AttentionForm& form, const SharedRows& queries, const ScoreBias& bias,
                          const Columns& query, const CachedKeys& cached);

}  // namespace lexring
