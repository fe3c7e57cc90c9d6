/// Extrapolatable position embedding (Sun et al. 2022, section 2): RoPE, with channel pair i of the score multiplied by
/// zeta_i^((n - m) / S), zeta_i = (i / (E/2) + gamma) / (1 + gamma). Only the distance n - m enters: see
/// framework/attention/call.h for how kernels keep it exact.
#include <cmath>

#include "models/positions/rotary.h"

namespace lexring {

namespace {

class Xpos : public PositionEncoding {
 public:
  Xpos(const ModelConfig& model, const PositionConfig& config)
      : config_(config),
        angles_(make_rotary_angles(config, model.width / model.heads)),
        score_scale_(rotary_score_scale(config)) {}
  void shape(AttentionForm& form) const override {
    form.rotary = true;
    form.scale *= score_scale_;
    form.log_decay.clear();
    const std::int64_t half = form.head_width / 2;
    for (std::int64_t i = 0; i < half; ++i) {
      const double zeta = (static_cast<double>(i) / static_cast<double>(half) + config_.gamma) / (1 + config_.gamma);
      form.log_decay.push_back(std::log(zeta) / config_.scale_base);
    }
  }
  const RotaryAngles* rotary() const override { return &angles_; }

 private:
  PositionConfig config_;
  RotaryAngles angles_;
  double score_scale_;
};

}  // namespace

std::unique_ptr<PositionEncoding> make_xpos(const ModelConfig& model, const PositionConfig& position) {
  require_usage(position.gamma > 0,
                "position.gamma = {} is not positive: the first channel would vanish at any distance; choose e.g. 0.4",
                position.gamma);
  require_usage(position.scale_base > 0, "position.scale_base = {} is not positive; choose e.g. 512",
                position.scale_base);
  return std::make_unique<Xpos>(model, position);
}

}  // namespace lexring
