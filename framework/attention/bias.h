/// The score bias: what a position method adds to the scores of a query and a key by their distance d = |n - m| and the
/// head h, besides the products of their channels. Fixed slopes, and a table that ordinary differentiable operations
/// made, whose gradient comes back in the same shape.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

/// bias = -slopes[h] * d + by_distance[h, min(d, distances - 1)]
struct ScoreBias {
  std::vector<float> slopes;  ///< [H]; empty: none
  Tensor by_distance;  ///< [H, distances] f32 (f64); undefined: none. Beyond its end the last distance's counts on.

  std::int64_t distances() const { return by_distance.defined() ? by_distance.dim(1) : 0; }
};

/// Adds to sums[d] the bias of `counts[d]` pairs at distance d, of which all `heads` have equally many. Waits for the
/// device.
void add_bias(const ScoreBias& bias, std::int64_t heads, std::span<const std::int64_t> counts, std::span<double> sums);

}  // namespace lexring
