#include "models/positions/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "framework/base/parallel_for.h"

namespace lexring {

namespace {

/// Cosines and sines of all pairs at one position (scaled as its method says).
struct Turn {
  std::vector<double> cosine, sine;

  Turn(const RotaryAngles& angles, double position) {
    for (const double frequency : angles.frequency) {
      cosine.push_back(std::cos(position * frequency));
      sine.push_back(std::sin(position * frequency));
    }
  }
};

/// Rows of tables: exact every `block` units, turned by an offset in between.
class TurnedRows {
 public:
  explicit TurnedRows(const RotaryAngles& angles) : angles_(angles), base_(angles, 0.0) {
    for (std::int64_t offset = 0; offset < block; ++offset)
      offsets_.emplace_back(angles, static_cast<double>(offset) * angles.unit);
  }
  void write(std::int64_t position, float* cosine, float* sine) {
    const auto units = static_cast<std::int64_t>(std::nearbyint(angles_.position(position) / angles_.unit));
    const std::int64_t offset = units % block;
    if (units - offset != at_) {
      at_ = units - offset;
      base_ = Turn(angles_, static_cast<double>(at_) * angles_.unit);
    }
    const Turn& by = offsets_[static_cast<std::size_t>(offset)];
    for (std::size_t i = 0; i < by.cosine.size(); ++i) {
      cosine[i] = static_cast<float>(base_.cosine[i] * by.cosine[i] - base_.sine[i] * by.sine[i]);
      sine[i] = static_cast<float>(base_.sine[i] * by.cosine[i] + base_.cosine[i] * by.sine[i]);
    }
  }

 private:
  static constexpr std::int64_t block = 64;
  const RotaryAngles& angles_;
  std::vector<Turn> offsets_;
  Turn base_;
  std::int64_t at_ = 0;
};

RotaryTable fill_by_turning(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens) {
  const std::size_t pairs = angles.frequency.size();
  std::vector<float> cosine(tokens.position.size() * pairs), sine(cosine.size());
  constexpr std::int64_t grain = 1024;
  parallel_for(0, tokens.rows(), grain, [&](std::int64_t first, std::int64_t last) {
    TurnedRows rows(angles);
    for (auto n = static_cast<std::size_t>(first); n < static_cast<std::size_t>(last); ++n) {
      rows.write(tokens.position[n], cosine.data() + n * pairs, sine.data() + n * pairs);
    }
  });
  const Shape shape = {tokens.rows(), static_cast<std::int64_t>(pairs)};
  return {Tensor::from(runtime, shape, cosine), Tensor::from(runtime, shape, sine)};
}

RotaryTable fill_exactly(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens) {
  std::vector<double> cosine, sine;
  for (const std::int64_t position : tokens.position) {
    const Turn turn(angles, angles.position(position));
    cosine.insert(cosine.end(), turn.cosine.begin(), turn.cosine.end());
    sine.insert(sine.end(), turn.sine.begin(), turn.sine.end());
  }
  const Shape shape = {tokens.rows(), static_cast<std::int64_t>(angles.frequency.size())};
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
  const Scaling scaling = config.scaling;
  require_usage(config.theta > 0, "position.theta = {} is not positive; choose e.g. 10000", config.theta);
  require_usage(!reads_factor(scaling) || config.scaling_factor > 0,
                "position.scaling_factor = {} is not positive: it is the new length over the old one; choose e.g. 4",
                config.scaling_factor);
  require_usage(!reads_original_length(scaling) || config.original_length > 0,
                "position.original_length = {} but position.scaling = {} needs the training length; set it",
                config.original_length, name_of(scaling));
  require_usage(scaling != Scaling::ntk || head_width > 2,
                "position.scaling = ntk needs a head width above 2, but it is {}; choose fewer heads", head_width);
  require_usage(scaling != Scaling::yarn || (config.theta > 1 && config.beta_fast > 0 && config.beta_slow > 0),
                "position.scaling = yarn needs theta above 1 and beta_fast and beta_slow above 0");
}

}  // namespace

RotaryAngles make_rotary_angles(const PositionConfig& config, std::int64_t head_width) {
  check_scaling(config, head_width);
  const auto width = static_cast<double>(head_width);
  double theta = config.theta;
  if (config.scaling == Scaling::ntk) theta *= std::pow(config.scaling_factor, width / (width - 2));
  RotaryAngles angles;
  for (std::int64_t i = 0; i < head_width / 2; ++i)
    angles.frequency.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / width));
  if (config.scaling == Scaling::yarn) angles.frequency = yarn_frequencies(config, std::move(angles.frequency), width);
  const double factor = config.scaling_factor;
  if (config.scaling == Scaling::linear) {
    angles.position = [factor](std::int64_t n) { return static_cast<double>(n) / factor; };
    angles.unit = 1 / factor;
  } else if (config.scaling == Scaling::modulo) {
    angles.position = [period = config.original_length](std::int64_t n) { return static_cast<double>(n % period); };
  } else if (config.scaling == Scaling::repeat) {
    angles.position = [factor](std::int64_t n) { return std::floor(static_cast<double>(n) / factor); };
  } else {
    angles.position = [](std::int64_t n) { return static_cast<double>(n); };
  }
  return angles;
}

double rotary_score_scale(const PositionConfig& config) {
  if (config.scaling != Scaling::yarn) return 1.0;
  const double temperature = 0.1 * std::log(std::max(config.scaling_factor, 1.0)) + 1.0;
  return temperature * temperature;
}

RotaryTable make_rotary_table(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype) {
  const MemoryPurpose purpose("rotation tables");
  return dtype == Dtype::f64 ? fill_exactly(runtime, angles, tokens) : fill_by_turning(runtime, angles, tokens);
}

RotaryTable RotaryTables::make(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype) {
  if (last_.cosine.defined() && last_.cosine.dtype() == dtype && tokens.position == positions_) return last_;
  last_ = {};
  last_ = make_rotary_table(runtime, angles, tokens, dtype);
  positions_ = tokens.position;
  return last_;
}

}  // namespace lexring
