/// Extrapolatable position embedding (Sun et al. 2022, section 2): RoPE, with channel pair i of the score multiplied by
/// zeta_i^((n - m) / S), zeta_i = (i / (E/2) + gamma) / (1 + gamma). Only the distance n - m enters: see
/// framework/attention/block.h for how kernels keep it exact.
#include <cmath>

#include "models/positions/rotary.h"

namespace lexring {

namespace {

class Xpos : public PositionEncoding {
 public:
  explicit Xpos(const ModelConfig& config)
      : config_(config.position),
        angles_(make_rotary_angles(config.position, config.width / config.heads)),
        score_scale_(rotary_score_scale(config.position)) {}
  void specify(AttentionSpec& spec) const override {
    spec.rotary = true;
    spec.scale *= score_scale_;
    spec.log_decay.clear();
    const std::int64_t half = spec.head_width / 2;
    for (std::int64_t i = 0; i < half; ++i) {
      const double zeta = (static_cast<double>(i) / static_cast<double>(half) + config_.gamma) / (1 + config_.gamma);
      spec.log_decay.push_back(std::log(zeta) / config_.scale_base);
    }
  }
  const RotaryAngles* rotary() const override { return &angles_; }

 private:
  PositionConfig config_;
  RotaryAngles angles_;
  double score_scale_;
};

}  // namespace

std::unique_ptr<PositionEncoding> make_xpos(const ModelConfig& config) {
  require_usage(config.position.gamma > 0,
                "position.gamma = {} is not positive: the first channel would vanish at any distance; choose e.g. 0.4",
                config.position.gamma);
  require_usage(config.position.scale_base > 0, "position.scale_base = {} is not positive; choose e.g. 512",
                config.position.scale_base);
  return std::make_unique<Xpos>(config);
}

}  // namespace lexring
