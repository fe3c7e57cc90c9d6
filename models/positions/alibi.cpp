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
  std::vector<float> slopes(std::int64_t count) const override {
    const auto heads = static_cast<std::size_t>(count);
    const std::size_t below = std::bit_floor(heads);
    const auto slope = [](std::size_t h, std::size_t of) {
      return static_cast<float>(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(of)));
    };
    std::vector<float> all;
    for (std::size_t h = 1; h <= below; ++h) all.push_back(slope(h, below));
    for (std::size_t h = 1; all.size() < heads; h += 2) all.push_back(slope(h, 2 * below));
    return all;
  }
};

std::unique_ptr<PositionEncoding> make(const ModelConfig&, const PositionConfig&) { return std::make_unique<Alibi>(); }

}  // namespace

constinit const PositionMethod position_methods::alibi = {
    .name = "alibi",
    .make = make,
    .formula = "score −= 2^(−8h/H) (n − m), heads h = 1 … H",
    .source =
        "Press et al. 2022, Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation",
    .fractions = true,
};

}  // namespace lexring
