#include "jobs/evaluation/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <boost/math/distributions/students_t.hpp>

#include "framework/base/error.h"

namespace lexring {

std::int64_t cluster_tokens(const std::vector<std::int64_t>& lengths) {
  std::int64_t whole = 1;
  for (const std::int64_t length : lengths) whole = std::lcm(whole, length);
  return (segment_tokens + whole - 1) / whole * whole;
}

std::vector<std::int64_t> segment_ends(std::int64_t tokens, const std::vector<std::int64_t>& cluster_sizes) {
  std::vector<std::int64_t> ends;
  for (const std::int64_t size : cluster_sizes) {
    for (std::int64_t end = size; end < tokens; end += size) ends.push_back(end);
  }
  ends.push_back(tokens);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

SegmentSums clustered(const SegmentSums& s, const std::vector<std::int64_t>& ends, std::int64_t cluster) {
  require(s.nll.size() == ends.size() && s.tokens.size() == ends.size(), "{} sums of segments came with {} ends",
          s.nll.size(), ends.size());
  SegmentSums clusters;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const auto at = static_cast<std::size_t>((ends[i] - 1) / cluster);
    if (clusters.nll.size() <= at) clusters.nll.resize(at + 1), clusters.tokens.resize(at + 1);
    clusters.nll[at] += s.nll[i];
    clusters.tokens[at] += s.tokens[i];
  }
  return clusters;
}

Estimate mean_loss(const SegmentSums& s) {
  require(s.nll.size() == s.tokens.size(), "{} sums of segments came with {} counts", s.nll.size(), s.tokens.size());
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const double total = static_cast<double>(std::accumulate(s.tokens.begin(), s.tokens.end(), std::int64_t{0}));
  if (total == 0) return {nan, nan, 0};
  const double mean = std::accumulate(s.nll.begin(), s.nll.end(), 0.0) / total;
  double squares = 0;
  std::int64_t used = 0;
  for (std::size_t i = 0; i < s.nll.size(); ++i) {
    if (s.tokens[i] == 0) continue;
    const double residual = s.nll[i] - mean * static_cast<double>(s.tokens[i]);
    squares += residual * residual;
    used += 1;
  }
  const auto clusters = static_cast<double>(used);
  return {mean, used < 2 ? nan : std::sqrt(squares * clusters / (clusters - 1)) / total, used};
}

Estimate paired_difference(const SegmentSums& a, const SegmentSums& b) {
  require(a.tokens == b.tokens && a.nll.size() == b.nll.size(),
          "two losses over different tokens cannot be paired; evaluate both over the same");
  SegmentSums difference = a;
  for (std::size_t i = 0; i < a.nll.size(); ++i) difference.nll[i] -= b.nll[i];
  return mean_loss(difference);
}

Verdict verdict(const Estimate& d) {
  if (!std::isfinite(d.mean)) return Verdict::worse;
  if (!std::isfinite(d.error) || d.clusters < 2) return Verdict::unclear;
  const double times = quantile(boost::math::students_t(static_cast<double>(d.clusters - 1)), 0.975);
  return std::abs(d.mean) <= times * d.error ? Verdict::unclear : d.mean > 0 ? Verdict::worse : Verdict::better;
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
