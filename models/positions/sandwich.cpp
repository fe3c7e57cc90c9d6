/// Sandwich (Chi et al. 2022, "Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis"):
/// score += sum over i of cos((n - m) / 10000^(2i / d)) / (8 h / H) with i = 0 .. d/2 - 1 and heads h = 1 .. H: the
/// inner product of two sinusoidal embeddings of width d, with a temperature per head. Nothing is learned.
#include <cmath>

#include "models/positions/distance_table.h"
#include "models/positions/position.h"

namespace lexring {

namespace {

class Sandwich : public PositionEncoding {
 public:
  Sandwich(std::int64_t channels, std::int64_t heads) : heads_(heads) {
    for (std::int64_t i = 0; i < channels / 2; ++i)
      frequencies_.push_back(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(channels)));
  }

  Var bias_by_distance(Tape& tape, const PositionParameters&, const HeadShare& own, std::int64_t longest,
                       Dtype master) const override {
    return Var(table_.make(tape.runtime(), own.heads, longest, master, {}, [&](std::int64_t d, std::span<double> bias) {
      double sum = 0;
      for (const double frequency : frequencies_) sum += std::cos(static_cast<double>(d) * frequency);
      for (std::size_t h = 0; h < bias.size(); ++h)
        bias[h] = sum * static_cast<double>(heads_) /
                  (8.0 * static_cast<double>(own.first + 1) + 8.0 * static_cast<double>(h));
    }));
  }

 private:
  std::int64_t heads_;
  std::vector<double> frequencies_;
  mutable DistanceTable table_;
};

std::unique_ptr<PositionEncoding> make(const ModelConfig& model, const PositionConfig& position) {
  const std::int64_t channels = position.own.whole("bar_d");
  require_usage(channels >= 2 && channels % 2 == 0,
                "position.bar_d = {} is not an even number of channels; choose e.g. 128", channels);
  return std::make_unique<Sandwich>(channels, model.heads);
}

constexpr PositionSetting settings[] = {
    {"bar_d", 128, 2, 1 << 20, "width of the sinusoids whose inner product is the bias", "channels", true},
};

}  // namespace

constinit const PositionMethod position_methods::sandwich = {
    .name = "sandwich",
    .make = make,
    .formula = "score += Σ_i cos((n − m) / 10000^(2i/d)) / (8h/H)",
    .source = "Chi et al. 2023, Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis",
    .settings = settings,
};

}  // namespace lexring
