#include "jobs/evaluation/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/base/error.h"

namespace lexring {

Estimate mean_loss(const SegmentSums& s) {
  require(s.nll.size() == s.tokens.size(), "{} sums of segments came with {} counts", s.nll.size(), s.tokens.size());
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const double total = static_cast<double>(std::accumulate(s.tokens.begin(), s.tokens.end(), std::int64_t{0}));
  if (total == 0) return {nan, nan};
  const double mean = std::accumulate(s.nll.begin(), s.nll.end(), 0.0) / total;
  double squares = 0, used = 0;
  for (std::size_t i = 0; i < s.nll.size(); ++i) {
    if (s.tokens[i] == 0) continue;
    const double residual = s.nll[i] - mean * static_cast<double>(s.tokens[i]);
    squares += residual * residual;
    used += 1;
  }
  return {mean, used < 2 ? nan : std::sqrt(squares * used / (used - 1)) / total};
}

Estimate paired_difference(const SegmentSums& a, const SegmentSums& b) {
  require(a.tokens == b.tokens && a.nll.size() == b.nll.size(),
          "two losses over different tokens cannot be paired; evaluate both over the same");
  SegmentSums difference = a;
  for (std::size_t i = 0; i < a.nll.size(); ++i) difference.nll[i] -= b.nll[i];
  return mean_loss(difference);
}

double attention_resolution(const std::vector<double>& s) {
  require(s.size() >= 2, "attention resolution needs the scores of at least two distances, not {}", s.size());
  const double largest = *std::max_element(s.begin(), s.end());
  double numerator = 0, sum = 0;
  for (std::size_t i = 0; i + 1 < s.size(); ++i) {
    const double e = std::exp(s[i] - largest), next = std::exp(s[i + 1] - largest);
    numerator += e * (e - next);
    sum += e;
  }
  return numerator / (sum * sum);
}

std::vector<std::pair<std::int64_t, std::int64_t>> position_buckets(std::int64_t length) {
  std::vector<std::pair<std::int64_t, std::int64_t>> buckets;
  const auto add = [&](std::int64_t first, std::int64_t last) {
    if (first < length) buckets.emplace_back(first, std::min(last, length));
  };
  for (std::int64_t i = 0; i < 4; ++i) add(i, i + 1);
  for (std::int64_t octave = 4; octave < length; octave *= 2) {
    add(octave, octave + octave / 2);
    add(octave + octave / 2, 2 * octave);
  }
  return buckets;
}

}  // namespace lexring
