#include "models/query_factors.h"

#include <algorithm>
#include <cmath>

namespace lexring {

namespace {

/// `keys`: how many the query sees.
double factor(const AttentionConfig& config, double coordinate, std::int64_t keys) {
  const double own = std::max(coordinate, 0.0) + 1;
  double product = 1;
  if (config.logn_base > 0) {
    const double tokens = config.pattern->sees_later ? static_cast<double>(keys) : own;
    const double log = std::log(tokens) / std::log(static_cast<double>(config.logn_base));
    product *= config.logn_clip ? std::max(log, 1.0) : log;
  }
  if (config.floor_scale > 0)
    product *= 1 + config.attn_scale * std::log1p(std::floor(own / static_cast<double>(config.floor_scale)));
  if (config.ssmax) product *= std::log(static_cast<double>(keys));
  return product;
}

Tensor by_row(Runtime& runtime, const std::vector<double>& factors, Dtype master) {
  const Shape shape = {static_cast<std::int64_t>(factors.size())};
  if (master == Dtype::f64) return Tensor::from(runtime, shape, factors);
  return Tensor::from(runtime, shape, std::vector<float>(factors.begin(), factors.end()));
}

}  // namespace

RowFactors make_row_factors(Runtime& runtime, const AttentionConfig& config, const QueryRows& rows, Dtype master,
                            const std::vector<std::int64_t>* places) {
  const bool relu = config.normalizer == Normalizer::relu,
             scaled = config.logn_base > 0 || config.floor_scale > 0 || config.ssmax;
  if (!relu && !scaled) return {};
  std::vector<std::int64_t> keys(rows.queries.position.size(), 1);
  const bool counted = config.ssmax || relu || (config.logn_base > 0 && config.pattern->sees_later);
  if (counted) keys = visible_keys(rows.queries, rows.visible, rows.keys);
  std::vector<double> scores, output;
  const auto add = [&](std::size_t n) {
    scores.push_back(factor(config, rows.queries.coordinate_of(n), keys[n]));
    output.push_back(1 / (config.relu_gamma * std::sqrt(static_cast<double>(keys[n]) / 2)));
  };
  if (places != nullptr) {
    for (const std::int64_t n : *places) add(static_cast<std::size_t>(n));
  } else {
    for (std::size_t n = 0; n < keys.size(); ++n) add(n);
  }
  return {scaled ? by_row(runtime, scores, master) : Tensor(), relu ? by_row(runtime, output, master) : Tensor()};
}

double largest_factor(const AttentionConfig& config, std::int64_t tokens) {
  return factor(config, static_cast<double>(tokens - 1), tokens) / config.temperature;
}

}  // namespace lexring
