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
    const double at = angles_.position(static_cast<double>(position));
    const auto units = static_cast<std::int64_t>(std::nearbyint(at / angles_.unit));
    const std::int64_t offset = units % block;
    if (units - offset != at_) {
      at_ = units - offset;
      base_ = Turn(angles_, static_cast<double>(at_) * angles_.unit);
    }
    const Turn& by = offsets_[static_cast<std::size_t>(offset)];
    for (std::size_t i = 0; i < by.cosine.size(); ++i) {
      const double magnitude = angles_.magnitude[i];
      cosine[i] = static_cast<float>(magnitude * (base_.cosine[i] * by.cosine[i] - base_.sine[i] * by.sine[i]));
      sine[i] = static_cast<float>(magnitude * (base_.sine[i] * by.cosine[i] + base_.cosine[i] * by.sine[i]));
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

template <class T>
RotaryTable fill_exactly(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens) {
  const std::size_t pairs = angles.frequency.size();
  std::vector<T> cosine(tokens.position.size() * pairs), sine(cosine.size());
  parallel_for(0, tokens.rows(), 64, [&](std::int64_t first, std::int64_t last) {
    for (auto n = static_cast<std::size_t>(first); n < static_cast<std::size_t>(last); ++n) {
      const Turn turn(angles, angles.position(tokens.coordinate_of(n)));
      for (std::size_t i = 0; i < pairs; ++i) {
        cosine[n * pairs + i] = static_cast<T>(angles.magnitude[i] * turn.cosine[i]);
        sine[n * pairs + i] = static_cast<T>(angles.magnitude[i] * turn.sine[i]);
      }
    }
  });
  const Shape shape = {tokens.rows(), static_cast<std::int64_t>(pairs)};
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

std::vector<double> llama3_frequencies(const PositionConfig& config, std::vector<double> frequency) {
  for (double& f : frequency) {
    const double turns = static_cast<double>(config.original_length) * f / (2 * std::numbers::pi);
    const double keep =
        std::clamp((turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor), 0.0, 1.0);
    f = f / config.scaling_factor * (1 - keep) + f * keep;
  }
  return frequency;
}

/// theta^(-2i/R), rescaled.
std::vector<double> frequencies(const PositionConfig& config, std::int64_t rotated, std::int64_t length) {
  const auto width = static_cast<double>(rotated);
  const double s = config.scaling_factor;
  const bool beyond = length > config.original_length;
  double theta = config.theta;
  if (config.scaling == Scaling::ntk) theta *= std::pow(s, width / (width - 2));
  if (config.scaling == Scaling::dynamic && beyond) {
    const double times = static_cast<double>(length) / static_cast<double>(config.original_length);
    theta *= std::pow(s * times - (s - 1), width / (width - 2));
  }
  std::vector<double> frequency;
  for (std::int64_t i = 0; i < rotated / 2; ++i)
    frequency.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / width));
  if (config.scaling == Scaling::yarn) return yarn_frequencies(config, std::move(frequency), width);
  if (config.scaling == Scaling::llama3) return llama3_frequencies(config, std::move(frequency));
  if (config.scaling == Scaling::longrope) {
    const std::vector<double>& divisor = beyond ? config.long_factor : config.short_factor;
    for (std::size_t i = 0; i < frequency.size(); ++i) frequency[i] /= divisor[i];
  }
  return frequency;
}

double magnitude(const PositionConfig& config) {
  if (!reads_magnitude(config.scaling)) return 1.0;
  if (config.attention_factor != 0) return config.attention_factor;
  const double log_factor = std::log(std::max(config.scaling_factor, 1.0));
  return config.scaling == Scaling::yarn
             ? 0.1 * log_factor + 1.0
             : std::sqrt(1 + log_factor / std::log(static_cast<double>(config.original_length)));
}

void check_divisors(const char* key, const std::vector<double>& divisors, std::int64_t pairs) {
  require_usage(static_cast<std::int64_t>(divisors.size()) == pairs,
                "{} has {} numbers, but position.scaling = longrope divides the frequencies of {} channel pairs of a "
                "head; give one for each",
                key, divisors.size(), pairs);
  for (const double divisor : divisors)
    require_usage(divisor > 0, "{} has {}, which is not positive: frequencies are divided by it", key, divisor);
}

void check_scaling(const PositionConfig& config, std::int64_t rotated) {
  const Scaling scaling = config.scaling;
  require_usage(config.theta > 0, "position.theta = {} is not positive; choose e.g. 10000", config.theta);
  require_usage(config.p_rope >= 0 && config.p_rope <= 1,
                "position.p_rope = {} is no share of the channel pairs; choose from 0 to 1", config.p_rope);
  require_usage(!reads_factor(scaling) || config.scaling_factor > 0,
                "position.scaling_factor = {} is not positive: it is the new length over the old one; choose e.g. 4",
                config.scaling_factor);
  require_usage(!reads_original_length(scaling) || config.original_length > 0,
                "position.original_length = {} but position.scaling = {} needs the training length; set it",
                config.original_length, name_of(scaling));
  require_usage((scaling != Scaling::ntk && scaling != Scaling::dynamic) || rotated > 2,
                "position.scaling = {} needs more than 2 rotated channels in a head, but there are {}; choose fewer "
                "heads",
                name_of(scaling), rotated);
  require_usage(scaling != Scaling::dynamic || config.scaling_factor >= 1,
                "position.scaling_factor = {} shrinks lengths; position.scaling = dynamic needs 1 or more",
                config.scaling_factor);
  require_usage(scaling != Scaling::yarn || (config.theta > 1 && config.beta_fast > 0 && config.beta_slow > 0),
                "position.scaling = yarn needs theta above 1 and beta_fast and beta_slow above 0");
  require_usage(scaling != Scaling::llama3 || config.high_freq_factor > config.low_freq_factor,
                "position.high_freq_factor = {} is not above position.low_freq_factor = {}: frequencies are kept above "
                "one and interpolated below the other; choose e.g. 4 and 1",
                config.high_freq_factor, config.low_freq_factor);
  require_usage(!reads_magnitude(scaling) || config.attention_factor >= 0,
                "position.attention_factor = {} is negative; choose a positive one, or 0 for the method's own",
                config.attention_factor);
  if (scaling != Scaling::longrope) return;
  require_usage(config.original_length > 1,
                "position.original_length = 1 is too short for position.scaling = longrope");
  check_divisors("position.short_factor", config.short_factor, rotated / 2);
  check_divisors("position.long_factor", config.long_factor, rotated / 2);
}

}  // namespace

std::int64_t rotated_channels(const PositionConfig& config, std::int64_t head_width) {
  const auto rotated = static_cast<std::int64_t>(static_cast<double>(head_width) * config.partial_rotary_factor);
  require_usage(rotated > 0 && rotated <= head_width && rotated % 2 == 0,
                "position.partial_rotary_factor = {} turns {} of the {} channels of a head, but channels are turned in "
                "pairs; choose e.g. {}",
                config.partial_rotary_factor, rotated, head_width, head_width % 4 == 0 ? "0.5" : "1");
  return rotated;
}

RotaryAngles make_rotary_angles(const PositionConfig& config, std::int64_t head_width, std::int64_t length) {
  const std::int64_t rotated = rotated_channels(config, head_width);
  check_scaling(config, rotated);
  RotaryAngles angles;
  angles.frequency = frequencies(config, rotated, length);
  const auto turning = static_cast<std::size_t>(config.p_rope * static_cast<double>(angles.frequency.size()));
  std::fill(angles.frequency.begin() + static_cast<std::ptrdiff_t>(turning), angles.frequency.end(), 0.0);
  angles.magnitude.assign(angles.frequency.size(), magnitude(config));
  angles.frequency.resize(static_cast<std::size_t>(head_width / 2), 0.0);
  angles.magnitude.resize(static_cast<std::size_t>(head_width / 2), 1.0);
  const double factor = config.scaling_factor;
  if (config.scaling == Scaling::linear) {
    angles.position = [factor](double n) { return n / factor; };
    angles.unit = 1 / factor;
  } else if (config.scaling == Scaling::modulo) {
    angles.position = [period = static_cast<double>(config.original_length)](double n) {
      const double rest = std::fmod(n, period);
      return rest < 0 ? rest + period : rest;
    };
  } else if (config.scaling == Scaling::repeat) {
    angles.position = [factor](double n) { return std::floor(n / factor); };
  } else {
    angles.position = [](double n) { return n; };
  }
  return angles;
}

RotaryTable make_rotary_table(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype) {
  const MemoryPurpose purpose("rotation tables");
  if (dtype == Dtype::f64) return fill_exactly<double>(runtime, angles, tokens);
  return tokens.coordinate.empty() ? fill_by_turning(runtime, angles, tokens)
                                   : fill_exactly<float>(runtime, angles, tokens);
}

RotaryTable RotaryTables::make(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype) {
  if (last_.cosine.defined() && last_.cosine.dtype() == dtype && tokens.position == tokens_.position &&
      tokens.coordinate == tokens_.coordinate)
    return last_;
  last_ = {};
  last_ = make_rotary_table(runtime, angles, tokens, dtype);
  tokens_ = tokens;
  return last_;
}

}  // namespace lexring
