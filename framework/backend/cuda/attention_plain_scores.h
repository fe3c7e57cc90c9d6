/// What the plain attention kernels make of a product of a query and a key: bias, cap, clamp, weight, and the gradients
/// of it.
#pragma once

#include "framework/backend/cuda/attention_plain_tiles.h"

namespace lexring::cuda {

/// A number of a row and head as the sum of two, and 0 where rows have none.
struct RowTerm {
  float high, low;
};

/// A pair's place in the bias by relative distance of a head.
struct RelativePlace {
  int piece;
  float x, log, log_by_c;
};

/// What is added to the scores of one head, in base 2.
struct HeadBias {
  float slope;
  const float* table;         ///< the head's row: by distance, or a RelativeRow; null: none
  int last;                   ///< of the table by distance
  int pieces;                 ///< of the bias by relative distance; 0: by distance
  const float* log_distance;  ///< [2, distances] with pieces
  int distances;

  __device__ int entry(int query, int key) const {
    const int distance = query > key ? query - key : key - query;
    return distance < last ? distance : last;
  }
  /// Of a query's log(c d + 1).
  __device__ float rate(int query) const {
    const float far = fmaxf(static_cast<float>(query), table[2 * pieces + 1]);
    return 1.0F / (log1pf(table[2 * pieces] * far) + 1e-6F);
  }
  __device__ RelativePlace place(int query, int key, float rate) const {
    const int distance = query < key ? 0 : query - key < distances ? query - key : distances - 1;
    RelativePlace at{0, log_distance[distance] * rate, log_distance[distance], log_distance[distances + distance]};
    const float* const knots = table + 2 * pieces + 2;
    int above = pieces - 1;  // the piece is in [at.piece, above]
    while (at.piece < above) {
      const int middle = (at.piece + above) / 2;
      if (at.x > knots[middle]) at.piece = middle + 1;
      else above = middle;
    }
    return at;
  }
  __device__ float of(int query, int key, float rate) const {
    float sum = -slope * fabsf(static_cast<float>(query - key));
    if (pieces > 0) {
      const RelativePlace at = place(query, key, rate);
      sum = fmaf(fmaf(table[at.piece], at.x, table[pieces + at.piece]), log2_e, sum);
    } else if (table != nullptr) {
      sum = fmaf(table[entry(query, key)], log2_e, sum);
    }
    return sum;
  }
};

/// What scores are made of, besides products.
struct ScoreRule {
  const RowRange* ranges;
  const std::int32_t *query_position, *key_position;  ///< null without bias and clamp
  const float* slopes;                                ///< null without
  const float* by_distance;                           ///< [H, distances], null without
  const float* log_distance;                          ///< [2, log_distances], null without
  int distances, log_distances;
  const float *query_terms, *key_terms;  ///< [N, 2 H], [M, 2 H], null without
  int heads;
  const LogDecay* decay;  ///< null without
  float scale;            ///< times log2(e)
  int pairs;
  float cap, least;  ///< in base 2: soft cap, 0 without; clamp, -inf without
  bool relu;

  __device__ bool biased() const { return query_position != nullptr || query_terms != nullptr; }
  __device__ RowTerm term(const float* terms, int head, int row) const {
    const float* const at = terms + static_cast<std::int64_t>(row) * 2 * heads + head;
    return {at[0], at[heads]};
  }
  __device__ float capped(float score) const { return cap > 0.0F ? cap * tanhf(score / cap) : score; }
  /// The derivative of `capped`, from its result.
  __device__ float slope(float score) const { return cap > 0.0F ? 1.0F - score / cap * (score / cap) : 1.0F; }
  /// Whether the key of this score, bias included, is seen; the query's own always is.
  __device__ bool counts(float score, std::int32_t query, std::int32_t key) const {
    return !(score < least) || query == key;  // NaN is seen
  }
  __device__ HeadBias bias(int head) const {
    return {slopes != nullptr ? slopes[head] : 0.0F,
            by_distance != nullptr ? by_distance + static_cast<std::int64_t>(head) * distances : nullptr,
            distances - 1,
            log_distance != nullptr ? distances / 3 : 0,
            log_distance,
            log_distances};
  }
};
inline ScoreRule score_rule(const AttentionForm& form, const ScoreBias& bias, const RowTerms& terms,
                            const AttentionTables& tables) {
  ScoreRule rule{};
  rule.ranges = tables.rows();
  if (tables.query_position.defined()) {
    rule.query_position = tables.query_position.data<std::int32_t>(),
    rule.key_position = tables.key_position.data<std::int32_t>();
  }
  if (tables.slopes.defined()) rule.slopes = tables.slopes.data<float>();
  if (bias.by_distance.defined()) {
    rule.by_distance = bias.by_distance.data<float>();
    rule.distances = static_cast<int>(bias.distances());
  }
  if (bias.relative()) {
    rule.log_distance = bias.log_distance.data<float>();
    rule.log_distances = static_cast<int>(bias.log_distance.dim(1));
  }
  if (terms.defined()) rule.query_terms = terms.queries.data<float>(), rule.key_terms = terms.keys.data<float>();
  rule.heads = static_cast<int>(form.heads);
  if (tables.decay.defined()) rule.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  rule.scale = static_cast<float>(form.scale) * log2_e;
  rule.pairs = static_cast<int>(form.head_width / 2);
  rule.cap = static_cast<float>(form.softcap) * log2_e;
  rule.least = static_cast<float>(form.clamp) * log2_e;
  rule.relu = form.normalizer == Normalizer::relu;
  return rule;
}

/// The weight that ReLU makes of a score in base 2; NaN stays NaN.
__device__ inline float rectified(float score) { return score < 0.0F ? 0.0F : score * ln_2; }

/// What backward makes of a score, bias included, in base 2.
struct Differential {
  float weight, gradient;  ///< gradient: of the score, natural

  /// From the gradient of the weight.
  __device__ Differential(const ScoreRule& rule, float score, float lse, float dweight, float delta) {
    weight = rule.relu ? rectified(score) : exp2_fast(score - lse);
    gradient = !rule.relu ? weight * (dweight - delta) : score > 0.0F ? dweight : 0.0F;
  }
};

/// What a block keeps of `rows` queries, for one head.
template <int rows>
struct QueryRows {
  RowRange range[rows];
  std::int32_t position[rows];
  float rate[rows];
  RowTerm term[rows];

  __device__ void put(const ScoreRule& rule, int head, int first, int count) {
    for (int row = static_cast<int>(threadIdx.x); row < rows; row += plain_threads) {
      const bool live = row < count;
      range[row] = live ? rule.ranges[first + row] : RowRange{0, 0, 0, 0};
      if (!rule.biased()) continue;
      position[row] = live && rule.query_position != nullptr ? rule.query_position[first + row] : 0;
      if (rule.log_distance != nullptr) rate[row] = rule.bias(head).rate(position[row]);
      term[row] = live && rule.query_terms != nullptr ? rule.term(rule.query_terms, head, first + row) : RowTerm{};
    }
  }
};
template <int rows>
struct KeyRows {
  std::int32_t position[rows];
  RowTerm term[rows];

  __device__ void put(const ScoreRule& rule, int head, int first, int count) {
    if (!rule.biased()) return;
    for (int row = static_cast<int>(threadIdx.x); row < rows; row += plain_threads) {
      const bool live = row < count;
      position[row] = live && rule.key_position != nullptr ? rule.key_position[first + row] : 0;
      term[row] = live && rule.key_terms != nullptr ? rule.term(rule.key_terms, head, first + row) : RowTerm{};
    }
  }
};

/// What is added to the score of a query and a key, in base 2.
template <int query_count, int key_count>
__device__ float bias_of(const HeadBias& bias, const QueryRows<query_count>& queries, int query,
                         const KeyRows<key_count>& keys, int key) {
  const RowTerm own = queries.term[query], other = keys.term[key];
  const float terms = (own.high - other.high) + (own.low - other.low);
  return fmaf(terms, log2_e, bias.of(queries.position[query], keys.position[key], queries.rate[query]));
}

}  // namespace lexring::cuda
