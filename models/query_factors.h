/// What multiplies all scores of a query, by where it stands: log-n (Chiang and Cholak 2022; Su 2021), Llama 4's floor
/// scale, and the number of keys that scalable softmax reads (Nakanishi 2025; its learned factor per head is the
/// layer's). attention.temperature is in the form's scale.
#pragma once

#include <vector>

#include "models/batch.h"

namespace lexring {

/// Rows that ask, and the rows that they ask.
struct QueryRows {
  const TokenTable& queries;
  const Visibility& visible;  ///< of the queries
  const TokenTable& keys;     ///< with their own
};

/// [N] in `master`, of all queries, or of those at `places` if given. Undefined: all are 1.
Tensor make_query_factors(Runtime& runtime, const AttentionConfig& config, const QueryRows& rows, Dtype master,
                          const std::vector<std::int64_t>* places = nullptr);

/// What scores are multiplied by at most in a sequence of so many tokens, attention.temperature included.
double largest_factor(const AttentionConfig& config, std::int64_t tokens);

}  // namespace lexring
