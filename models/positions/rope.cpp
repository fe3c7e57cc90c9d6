/// Rotary position embedding (Su et al. 2021): channel pairs (2i, 2i + 1) of query and key are turned by n
/// theta^(-2i/E), so that their product depends on n - m alone.
#include "models/positions/rotary.h"

namespace lexring {

namespace {

class Rope : public PositionEncoding {
 public:
  explicit Rope(const ModelConfig& config)
      : angles_(make_rotary_angles(config.position, config.width / config.heads)),
        score_scale_(rotary_score_scale(config.position)) {}
  void specify(AttentionSpec& spec) const override {
    spec.rotary = true;
    spec.scale *= score_scale_;
  }
  const RotaryAngles* rotary() const override { return &angles_; }

 private:
  RotaryAngles angles_;
  double score_scale_;
};

}  // namespace

std::unique_ptr<PositionEncoding> make_rope(const ModelConfig& config) { return std::make_unique<Rope>(config); }

}  // namespace lexring
