/// Sinusoids added to the token embeddings (Vaswani et al. 2017, section 3.5): column 2i holds sin(n f_i), column 2i +
/// 1 cos(n f_i), with f_i = 10000^(-2i/D). Exact at every position: angles are computed in f64.
///
/// Frequencies to the last bit of f64 are a matter of taste, which distance magnifies: at position 100,000 a bit is
/// 1e-11 of an angle, and where AdamW divides by a gradient near its eps, 2e-9 of a parameter. As sqrt(10^8^(-2i/D))
/// they are those of the golden cases (width 48), bit for bit.
#include <cmath>

#include "models/positions/position.h"

namespace lexring {

namespace {

class Sinusoidal : public PositionEncoding {
 public:
  std::vector<double> added(const std::vector<double>& coordinates, std::int64_t width) const override {
    std::vector<double> out(coordinates.size() * static_cast<std::size_t>(width));
    for (std::int64_t column = 0; column < width; ++column) {
      const double frequency =
          std::sqrt(std::pow(1e8, -static_cast<double>(column - column % 2) / static_cast<double>(width)));
      for (std::size_t n = 0; n < coordinates.size(); ++n) {
        const double angle = coordinates[n] * frequency;
        out[n * static_cast<std::size_t>(width) + static_cast<std::size_t>(column)] =
            column % 2 == 0 ? std::sin(angle) : std::cos(angle);
      }
    }
    return out;
  }
};

std::unique_ptr<PositionEncoding> make(const ModelConfig& model, const PositionConfig&) {
  require_usage(model.width % 2 == 0,
                "model.width = {} is odd, but sinusoidal positions come in pairs of columns; choose an even width",
                model.width);
  return std::make_unique<Sinusoidal>();
}

}  // namespace

constinit const PositionMethod position_methods::sinusoidal = {
    .name = "sinusoidal",
    .make = make,
    .formula = "x_n += (sin(n f_i), cos(n f_i)), f_i = 10000^(−2i/D)",
    .source = "Vaswani et al. 2017, Attention Is All You Need",
    .fractions = true,
};

}  // namespace lexring
