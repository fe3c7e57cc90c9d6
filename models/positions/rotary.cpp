#include "models/positions/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lexring {

namespace {

/// Writes cos and sin of each row; a sequence that stands where the one before it stood is copied from it.
template <class T>
RotaryTable fill_tables(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens) {
  const std::size_t half = angles.frequency.size();
  std::vector<T> cosine(tokens.position.size() * half);
  std::vector<T> sine(cosine.size());
  const TokenTable::Sequence* before = nullptr;
  for (const TokenTable::Sequence& sequence : tokens.sequences) {
    const auto position = tokens.position.begin() + sequence.first;
    std::int64_t same = 0;
    if (before != nullptr) {
      const std::int64_t most = std::min(before->count, sequence.count);
      while (same < most && position[same] == tokens.position[static_cast<std::size_t>(before->first + same)]) ++same;
      const auto from = static_cast<std::size_t>(before->first) * half;
      const auto to = static_cast<std::size_t>(sequence.first) * half;
      std::copy_n(cosine.begin() + static_cast<std::ptrdiff_t>(from), static_cast<std::size_t>(same) * half,
                  cosine.begin() + static_cast<std::ptrdiff_t>(to));
      std::copy_n(sine.begin() + static_cast<std::ptrdiff_t>(from), static_cast<std::size_t>(same) * half,
                  sine.begin() + static_cast<std::ptrdiff_t>(to));
    }
    for (std::int64_t n = same; n < sequence.count; ++n) {
      const double turned = angles.position(position[n]);
      const std::size_t row = static_cast<std::size_t>(sequence.first + n) * half;
      for (std::size_t i = 0; i < half; ++i) {
        cosine[row + i] = static_cast<T>(std::cos(turned * angles.frequency[i]));
        sine[row + i] = static_cast<T>(std::sin(turned * angles.frequency[i]));
      }
    }
    before = &sequence;
  }
  const Shape shape = {tokens.rows(), static_cast<std::int64_t>(half)};
  return {Tensor::from(runtime, shape, cosine), Tensor::from(runtime, shape, sine)};
}

std::vector<double> yarn_frequencies(const PositionConfig& config, std::vector<double> frequency, double width) {
  // The fractional pair that turns this often over the training length.
  const auto pair_turning = [&](double rotations) {
    return width * std::log(static_cast<double>(config.original_length) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(config.theta));
  };
  const double low = std::max(std::floor(pair_turning(config.beta_fast)), 0.0);
  const double high = std::min(std::ceil(pair_turning(config.beta_slow)), width - 1);
  for (std::size_t i = 0; i < frequency.size(); ++i) {
    const double keep = 1 - std::clamp((static_cast<double>(i) - low) / (high != low ? high - low : 0.001), 0.0, 1.0);
    frequency[i] = frequency[i] / config.scaling_factor * (1 - keep) + frequency[i] * keep;
  }
  return frequency;
}

void check_scaling(const PositionConfig& config, std::int64_t head_width) {
  const std::string& scaling = config.scaling;
  require_usage(
      scaling == "none" || scaling == "linear" || scaling == "ntk" || scaling == "yarn" || scaling == "modulo" || scaling == "repeat",
      "position.scaling = {} is not known; choose none, linear, ntk, yarn, modulo or repeat", scaling);
  require_usage(config.theta > 0, "position.theta = {} is not positive; choose e.g. 10000", config.theta);
  require_usage(scaling == "none" || scaling == "modulo" || config.scaling_factor > 0,
                "position.scaling_factor = {} is not positive: it is the new length over the old one; choose e.g. 4",
                config.scaling_factor);
  require_usage((scaling != "yarn" && scaling != "modulo") || config.original_length > 0,
                "position.original_length = {} but position.scaling = {} needs the training length; set it", config.original_length,
                scaling);
  require_usage(scaling != "ntk" || head_width > 2, "position.scaling = ntk needs a head width above 2, but it is {}; choose fewer heads",
                head_width);
  require_usage(scaling != "yarn" || (config.theta > 1 && config.beta_fast > 0 && config.beta_slow > 0),
                "position.scaling = yarn needs theta above 1 and beta_fast and beta_slow above 0");
}

}  // namespace

RotaryAngles make_rotary_angles(const PositionConfig& config, std::int64_t head_width) {
  check_scaling(config, head_width);
  const auto width = static_cast<double>(head_width);
  double theta = config.theta;
  if (config.scaling == "ntk") theta *= std::pow(config.scaling_factor, width / (width - 2));
  RotaryAngles angles;
  for (std::int64_t i = 0; i < head_width / 2; ++i) angles.frequency.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / width));
  if (config.scaling == "yarn") angles.frequency = yarn_frequencies(config, std::move(angles.frequency), width);
  const double factor = config.scaling_factor;
  if (config.scaling == "linear") {
    angles.position = [factor](std::int64_t n) { return static_cast<double>(n) / factor; };
  } else if (config.scaling == "modulo") {
    angles.position = [period = config.original_length](std::int64_t n) { return static_cast<double>(n % period); };
  } else if (config.scaling == "repeat") {
    angles.position = [factor](std::int64_t n) { return std::floor(static_cast<double>(n) / factor); };
  } else {
    angles.position = [](std::int64_t n) { return static_cast<double>(n); };
  }
  return angles;
}

double rotary_score_scale(const PositionConfig& config) {
  if (config.scaling != "yarn") return 1.0;
  const double temperature = 0.1 * std::log(std::max(config.scaling_factor, 1.0)) + 1.0;
  return temperature * temperature;
}

RotaryTable RotaryTables::make(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype) {
  if (last_.cosine.defined() && last_.cosine.dtype() == dtype && tokens.position == positions_) return last_;
  last_ = {};
  last_ = dtype == Dtype::f64 ? fill_tables<double>(runtime, angles, tokens) : fill_tables<float>(runtime, angles, tokens);
  positions_ = tokens.position;
  return last_;
}

}  // namespace lexring
