/// The score bias: what a position method adds to the scores of a query and a key by their distance d = |n - m| and the
/// head h, besides the products of their channels. Fixed slopes, and a table that ordinary differentiable operations
/// made, whose gradient comes back in the same shape. The table is by distance, or by distance relative to where the
/// query stands.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

/// bias = -slopes[h] * d + by_distance[h, min(d, distances - 1)], or, with `log_distance`, -slopes[h] * d + f_h(x) of a
/// relative distance x in [0, 1) (RelativeRow; FIRE, Li et al. 2023).
struct ScoreBias {
  std::vector<float> slopes;  ///< [H]; empty: none
  Tensor by_distance;  ///< [H, distances] f32 (f64); undefined: none. Beyond its end the last distance's counts on.
                       ///< With `log_distance`: [H, 3 P + 1], a RelativeRow per head.
  Tensor log_distance = {};  ///< [2, distances] f32 (f64): log(c d + 1), and its derivative by c. Of all distances that
                             ///< occur; undefined: the bias is by distance alone.

  bool relative() const { return log_distance.defined(); }
  std::int64_t distances() const { return by_distance.defined() ? by_distance.dim(1) : 0; }
};

/// The bias of one head by relative distance: f(x) of x = log(c d + 1) / (log(c max(n, threshold) + 1) + 1e-6), where n
/// is the query's position and f is linear in each of P pieces: slope[p] x + value[p], where p knots are below x. In a
/// row of the table stand slopes [P], values [P] (of each piece at x = 0), c, threshold, and the knots [P - 1], which
/// ascend. c and threshold are at least 0 and the same for all heads. Gradients stand likewise; knots have none.
template <class T>
struct RelativeRow {
  std::int64_t pieces;  ///< P
  const T *slope, *value, *knots;
  T c, threshold;

  RelativeRow(const T* row, std::int64_t columns)
      : pieces(columns / 3),
        slope(row),
        value(row + pieces),
        knots(row + 2 * pieces + 2),
        c(row[2 * pieces]),
        threshold(row[2 * pieces + 1]) {}

  /// What a query's log(c d + 1) is multiplied by, and its derivatives.
  struct Rate {
    double value, by_c, by_threshold;
  };
  Rate rate(std::int64_t position) const {
    const double scale = c, far = std::max(static_cast<double>(position), static_cast<double>(threshold));
    const double rate = 1 / (std::log1p(scale * far) + 1e-6), step = -rate * rate / (1 + scale * far);
    return {rate, step * far, static_cast<double>(position) < static_cast<double>(threshold) ? step * scale : 0.0};
  }
};

/// Adds to sums[d] the bias of `counts[d]` pairs at distance d, of which all `heads` have equally many; the bias must
/// be one by distance alone. Waits for the device.
void add_bias(const ScoreBias& bias, std::int64_t heads, std::span<const std::int64_t> counts, std::span<double> sums);

}  // namespace lexring
