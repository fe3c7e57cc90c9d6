/// What multiplies all scores of a query, by where it stands: log-n (Chiang and Cholak 2022; Su 2021; by its keys where
/// they are on both sides), Llama 4's floor scale, and the keys that scalable softmax counts (Nakanishi 2025; its part
/// by head is the layer's). attention.temperature is in the form's scale. And what divides the sum of ReLU's weights.
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

/// By row that asks: [N], or of those at `places` if given; undefined: all are 1.
struct RowFactors {
  Tensor scores;  ///< what its scores are multiplied by, before cap and bias
  Tensor output;  ///< what its attended values are: with ReLU, 1 / (relu_gamma sqrt(n / 2)) of n visible keys (Shen et
                  ///< al. 2023)
};
RowFactors make_row_factors(Runtime& runtime, const AttentionConfig& config, const QueryRows& rows, Dtype master,
                            const std::vector<std::int64_t>* places = nullptr);

/// What scores are multiplied by at most in a sequence of so many tokens, attention.temperature included.
double largest_factor(const AttentionConfig& config, std::int64_t tokens);

}  // namespace lexring
