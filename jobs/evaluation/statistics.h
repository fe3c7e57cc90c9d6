/// Means with standard errors over segments of a stream, and paired differences between two measurements of the same stream.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace lexring {

/// Sums of per-token losses over consecutive segments of a stream. The memory is per segment, never per token.
struct SegmentSums {
  std::vector<double> nll;           ///< nats
  std::vector<std::int64_t> tokens;  ///< counted targets
};

/// A mean per token and its standard error.
struct Estimate {
  double mean = 0;
  double error = 0;  ///< NaN where fewer than two segments have tokens: there is nothing to estimate it from
};

/// Sum of losses / number of tokens, with the ratio estimator's standard error over segments (Cochran, Sampling Techniques, 6.4); for
/// segments of equal size it is the standard deviation of their means over the root of their number. Neighbouring tokens are correlated,
/// segments of thousands nearly are not.
Estimate mean_loss(const SegmentSums& segments);

/// a - b per token. Both must be of the same segments of the same tokens: what makes a text hard cancels, so the error is far below the two
/// alone. Throws Error when they are not.
Estimate paired_difference(const SegmentSums& a, const SegmentSums& b);

/// R(s) = sum_i e^s_i (e^s_i - e^s_{i+1}) / (sum_i e^s_i)^2, i = 0 .. N (Sun et al. 2022, eq. 3), of s_0 .. s_{N+1}: the mean score at each
/// distance. At most 1. Throws Error for fewer than two distances.
double attention_resolution(const std::vector<double>& score_by_distance);

/// Ranges of positions [first, last) that cover [0, length): single positions first, then two to an octave.
std::vector<std::pair<std::int64_t, std::int64_t>> position_buckets(std::int64_t length);

}  // namespace lexring
