#include "jobs/training/spike.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

namespace lexring {
namespace {

/// Of an even number the mean of the two in the middle.
double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

void keep_newest(std::vector<double>& values, std::int64_t window, double value) {
  values.push_back(value);
  const auto most = static_cast<std::size_t>(window);
  if (values.size() > most) values.erase(values.begin(), values.end() - static_cast<std::ptrdiff_t>(most));
}

std::span<const double> newest(const std::vector<double>& values, std::int64_t window) {
  return std::span(values).last(static_cast<std::size_t>(window));
}

}  // namespace

double robust_score(std::span<const double> window, double value) {
  constexpr double to_standard_deviation = 1.4826, least_share = 1e-3;
  const double middle = median({window.begin(), window.end()});
  std::vector<double> deviations;
  for (const double other : window) deviations.push_back(std::abs(other - middle));
  const double deviation =
      std::max(to_standard_deviation * median(std::move(deviations)), least_share * std::abs(middle));
  return deviation > 0 ? (value - middle) / deviation : 0.0;
}

std::optional<SpikeScore> spike_score(const SpikeState& state, std::int64_t window, double loss, double gradient_norm) {
  if (std::ssize(state.losses) < window || !std::isfinite(loss)) return std::nullopt;
  return SpikeScore{robust_score(newest(state.losses, window), loss),
                    robust_score(newest(state.gradient_norms, window), gradient_norm)};
}

std::string describe(const SpikeScore& score, std::int64_t window, double loss, double gradient_norm) {
  const bool by_loss = score.loss >= score.gradient_norm;
  return fmt::format("{} {:.6g} is {:.1f} standard deviations above the median of the {} accepted steps before",
                     by_loss ? "loss" : "gradient norm", by_loss ? loss : gradient_norm, score.highest(), window);
}

void accept(SpikeState& state, std::int64_t window, double loss, double gradient_norm) {
  if (!std::isfinite(loss)) return;
  keep_newest(state.losses, window, loss);
  keep_newest(state.gradient_norms, window, gradient_norm);
}

}  // namespace lexring
