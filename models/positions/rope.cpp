/// Rotary position embedding (Su et al. 2021): channel pairs (2i, 2i + 1) of query and key are turned by n
/// theta^(-2i/E), so that their product depends on n - m alone.
#include "models/positions/rotary.h"

namespace lexring {

namespace {

class Rope : public PositionEncoding {
 public:
  Rope(const ModelConfig& model, const PositionConfig& config) : config_(config), head_width_(model.width_of_head()) {
    make_rotary_angles(config_, head_width_, 0);
  }
  void shape(AttentionForm& form) const override { form.rotary = true; }
  std::optional<RotaryAngles> rotary(std::int64_t length) const override {
    return make_rotary_angles(config_, head_width_, length);
  }

 private:
  PositionConfig config_;
  std::int64_t head_width_;
};

std::unique_ptr<PositionEncoding> make(const ModelConfig& model, const PositionConfig& position) {
  return std::make_unique<Rope>(model, position);
}

}  // namespace

constinit const PositionMethod position_methods::rope = {
    .name = "rope",
    .make = make,
    .formula = "score = Σ_i Re(q_i k_i* e^(i θ_i (n − m))) / √E, θ_i = θ^(−2i/E)",
    .source = "Su et al. 2021, RoFormer: Enhanced Transformer with Rotary Position Embedding",
    .rotary = true,
    .fractions = true,
};

}  // namespace lexring
