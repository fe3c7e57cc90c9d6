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
  Sandwich(const PositionConfig& config, std::int64_t heads) : heads_(heads) {
    for (std::int64_t i = 0; i < config.bar_d / 2; ++i)
      frequencies_.push_back(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(config.bar_d)));
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

}  // namespace

std::unique_ptr<PositionEncoding> make_sandwich(const ModelConfig& model, const PositionConfig& position) {
  require_usage(position.bar_d >= 2 && position.bar_d % 2 == 0,
                "position.bar_d = {} is not an even number of channels; choose e.g. 128", position.bar_d);
  return std::make_unique<Sandwich>(position, model.heads);
}

}  // namespace lexring
