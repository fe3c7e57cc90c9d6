/// Extrapolatable position embedding (Sun et al. 2022, section 2): RoPE, with channel pair i of the score multiplied by
/// zeta_i^((n - m) / S), zeta_i = (i / (R/2) + gamma) / (1 + gamma), of the R channels that are turned (rotary.h). Only
/// the distance n - m enters: see framework/attention/call.h for how kernels keep it exact.
#include <cmath>

#include "models/positions/rotary.h"

namespace lexring {

namespace {

class Xpos : public PositionEncoding {
 public:
  Xpos(const ModelConfig& model, const PositionConfig& config) : config_(config), head_width_(model.width_of_head()) {
    make_rotary_angles(config_, head_width_, 0);
  }
  void shape(AttentionForm& form) const override {
    form.rotary = true;
    form.log_decay.assign(static_cast<std::size_t>(head_width_ / 2), 0.0);
    const double gamma = config_.own.number("gamma");
    const std::int64_t pairs = rotated_channels(config_, head_width_) / 2;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double zeta = (static_cast<double>(i) / static_cast<double>(pairs) + gamma) / (1 + gamma);
      form.log_decay[static_cast<std::size_t>(i)] = std::log(zeta) / config_.own.number("scale_base");
    }
  }
  std::optional<RotaryAngles> rotary(std::int64_t length) const override {
    return make_rotary_angles(config_, head_width_, length);
  }

 private:
  PositionConfig config_;
  std::int64_t head_width_;
};

std::unique_ptr<PositionEncoding> make(const ModelConfig& model, const PositionConfig& position) {
  const double gamma = position.own.number("gamma"), scale_base = position.own.number("scale_base");
  require_usage(gamma > 0,
                "position.gamma = {} is not positive: the first channel would vanish at any distance; choose e.g. 0.4",
                gamma);
  require_usage(scale_base > 0, "position.scale_base = {} is not positive; choose e.g. 512", scale_base);
  return std::make_unique<Xpos>(model, position);
}

constexpr PositionSetting settings[] = {
    {"gamma", 0.4, 0, 1e6, "zeta_i = (2i/E + gamma) / (1 + gamma)"},
    {"scale_base", 512, 1, 1e12, "distance over which scores decay by zeta", "tokens"},
};

}  // namespace

constinit const PositionMethod position_methods::xpos = {
    .name = "xpos",
    .make = make,
    .formula = "score = Σ_i ζ_i^((n − m)/S) Re(q_i k_i* e^(i θ_i (n − m))) / √E, ζ_i = (2i/E + γ) / (1 + γ)",
    .source = "Sun et al. 2023, A Length-Extrapolatable Transformer (ACL)",
    .settings = settings,
    .rotary = true,
    .fractions = true,
};

}  // namespace lexring
