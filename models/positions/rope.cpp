/// Rotary position embedding (Su et al. 2021): channel pairs (2i, 2i + 1) of query and key are turned by n
/// theta^(-2i/E), so that their product depends on n - m alone.
#include "models/positions/rotary.h"

namespace lexring {

namespace {

class Rope : public PositionEncoding {
 public:
  Rope(const ModelConfig& model, const PositionConfig& config)
      : angles_(make_rotary_angles(config, model.width / model.heads)), score_scale_(rotary_score_scale(config)) {}
  void shape(AttentionForm& form) const override {
    form.rotary = true;
    form.scale *= score_scale_;
  }
  const RotaryAngles* rotary() const override { return &angles_; }

 private:
  RotaryAngles angles_;
  double score_scale_;
};

}  // namespace

std::unique_ptr<PositionEncoding> make_rope(const ModelConfig& model, const PositionConfig& position) {
  return std::make_unique<Rope>(model, position);
}

}  // namespace lexring
