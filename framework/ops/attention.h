/// Attention of one device (framework/attention/call.h): rows that see each other, or rows that see a cache.
#pragma once

#include "framework/attention/parts.h"
#include "framework/autograd/tape.h"

namespace lexring {

/// Columns of a fused product [N, (H + 2K) E]: query, then key, then value.
struct QueryKeyValue {
  Columns query, key, value;
};
QueryKeyValue split_columns(const AttentionForm& form, const Tensor& qkv);
/// Key and value columns together, which lie side by side: 2 K E of them.
Columns key_value_columns(const AttentionForm& form, const Tensor& qkv);

/// A score bias on the tape: slopes, a table by distance [H, distances], or by relative distance, that operations
/// before made, and sums of a forget gate.
struct BiasTerms {
  std::vector<float> slopes;  ///< [H] or empty
  Var by_distance;            ///< undefined: none
  Var later;                  ///< of keys after their queries; undefined: theirs is `by_distance`
  Tensor log_distance = {};   ///< as in ScoreBias
  /// [N, 2 H] of all rows of the batch, in its order: what they add as queries and as keys (RowTerms);
  /// undefined: none. The gradient is [N, H], of the sum of each two.
  Var sums = {};

  /// The table that a part reads.
  const Var& table(const AttentionPart& part) const { return part.later && later.defined() ? later : by_distance; }
  ScoreBias value(const AttentionPart& part) const {
    return {slopes, table(part).defined() ? table(part).value() : Tensor(), log_distance};
  }
};

/// The terms of heads [first, first + count). Adjoint: the gradients of tables and sums, 0 for other heads.
BiasTerms slice_heads(Tape& tape, const BiasTerms& bias, std::int64_t first, std::int64_t count);
/// Of its sums alone.
Var slice_sums(Tape& tape, const Var& sums, std::int64_t first, std::int64_t count);

/// Zeros [N, H] for the gradient of `sums` [N, 2 H]; undefined where these are.
Tensor gradient_of_sums(Backend& backend, const Tensor& sums);

/// Gradients of a bias's tables, which begin as zeros; undefined where there is none.
class BiasGradients {
 public:
  BiasGradients() = default;
  BiasGradients(Backend& backend, const BiasTerms& bias);
  /// For AttentionBackward::dby_distance.
  const Tensor& of(const AttentionPart& part) const { return part.later && later_.defined() ? later_ : by_distance_; }
  void accumulate(Backend& backend, const BiasTerms& bias) &&;

 private:
  Tensor by_distance_, later_;
};

/// [N, H E] = attention of the rows `keys` to themselves. Adjoint: dqkv, with scores recomputed from the log-sum-exp,
/// and the gradients of the bias's tables and sums.
Var attention(Tape& tape, const AttentionParts& parts, const SharedRows& keys, const BiasTerms& bias, const Var& qkv);

/// Past and current rows, where keys and values come from a cache.
struct CachedKeys {
  SharedRows rows;
  Tensor keys, values;  ///< [M, K E]
  RowTerms terms = {};
};

/// [N, H E] = attention of `query` [N, H E] to cached keys. Nothing is recorded: caches are for evaluation.
Tensor attention_to_cache(Backend& backend, const AttentionParts& parts, const BiasTerms& bias, const Columns& query,
                          const CachedKeys& cached);

}  // namespace lexring
