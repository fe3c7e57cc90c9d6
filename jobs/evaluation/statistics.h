/// Means with standard errors over clusters of a stream, and paired differences between two measurements of the same
/// stream.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace lexring {

inline constexpr std::int64_t segment_tokens =
    4096;  ///< neighbouring tokens are correlated, stretches of so many nearly are not

/// Sums of per-token losses over consecutive segments of a stream. The memory is per segment, never per token.
struct SegmentSums {
  std::vector<double> nll;           ///< nats
  std::vector<std::int64_t> tokens;  ///< counted targets
};

/// Tokens of a cluster, the unit that errors are taken over: the fewest that are whole windows of every length, and
/// segment_tokens at least. Losses fall along a window; a cluster that held one window's first half and the next one's
/// second would count that as noise.
std::int64_t cluster_tokens(const std::vector<std::int64_t>& lengths);

/// Where the segments of a stream end such that a cluster of any of these sizes is a run of whole segments.
std::vector<std::int64_t> segment_ends(std::int64_t tokens, const std::vector<std::int64_t>& cluster_sizes);

/// Segments, which end at `ends`, put together into clusters of `cluster` tokens; the last one may be shorter.
SegmentSums clustered(const SegmentSums& segments, const std::vector<std::int64_t>& ends, std::int64_t cluster);

/// A mean per token and its standard error.
struct Estimate {
  double mean = 0;
  double error = 0;           ///< NaN where fewer than two clusters have tokens: there is nothing to estimate it from
  std::int64_t clusters = 0;  ///< that have tokens
};

/// Sum of losses / number of tokens, with the ratio estimator's standard error over clusters (Cochran, Sampling
/// Techniques, 6.4); for clusters of equal size it is the standard deviation of their means over the root of their
/// number.
Estimate mean_loss(const SegmentSums& clusters);

/// a - b per token. Both must be of the same clusters of the same tokens: what makes a text hard cancels, so the error
/// is far below the two alone. Throws Error when they are not.
Estimate paired_difference(const SegmentSums& a, const SegmentSums& b);

/// Which way a difference of losses points, by Student's t at 5 %, two-sided: with few clusters an error is itself
/// uncertain.
enum class Verdict { better, worse, unclear };
Verdict verdict(const Estimate& difference);

/// R(s) = sum_i e^s_i (e^s_i - e^s_{i+1}) / (sum_i e^s_i)^2, i = 0 .. N (Sun et al. 2022, eq. 3), of s_0 .. s_{N+1}:
/// the mean score at each distance. At most 1. Throws Error for fewer than two distances.
double attention_resolution(const std::vector<double>& score_by_distance);

/// Ranges of positions [first, last) that cover [0, length): single positions first, then two to an octave.
std::vector<std::pair<std::int64_t, std::int64_t>> position_buckets(std::int64_t length);

}  // namespace lexring
