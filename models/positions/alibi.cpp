/// Attention with linear biases (Press et al. 2022, section 3): score -= slope_h * (n - m).
/// Slopes are 2^(-8h/H), h = 1..H, for a power of two; otherwise those of the closest lower power of two, then every
/// other one of twice it.
#include <bit>
#include <cmath>

#include "models/positions/position.h"

namespace lexring {

namespace {

class Alibi : public PositionEncoding {
 public:
  void specify(AttentionSpec& spec) const override {
    const auto heads = static_cast<std::size_t>(spec.heads);
    const std::size_t below = std::bit_floor(heads);
    const auto slope = [](std::size_t h, std::size_t of) {
      return std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(of));
    };
    spec.slopes.clear();
    for (std::size_t h = 1; h <= below; ++h) spec.slopes.push_back(static_cast<Slope>(slope(h, below)));
    for (std::size_t h = 1; spec.slopes.size() < heads; h += 2)
      spec.slopes.push_back(static_cast<Slope>(slope(h, 2 * below)));
  }

 private:
  using Slope = decltype(AttentionSpec::slopes)::value_type;
};

}  // namespace

std::unique_ptr<PositionEncoding> make_alibi(const ModelConfig&) { return std::make_unique<Alibi>(); }

}  // namespace lexring
