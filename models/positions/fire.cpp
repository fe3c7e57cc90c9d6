/// FIRE (Li et al. 2023, "Functional Interpolation for Relative Positions Improves Long Context Transformers"): score
/// += f_h(psi(n - m) / (psi(max(n, L)) + 1e-6)) with psi(d) = log(|c| d + 1) and L = |multiplier fire_threshold|; f,
/// the same for all layers, is a perceptron 1 -> fire_width -> heads with ReLU; c, the multiplier and f are learned.
/// The authors' start: c = 0.1, multiplier 1, and f as linear layers are in PyTorch, uniform within 1 / sqrt(inputs).
///
/// Each unit of f is 0 on one side of a point, so a head's bias is linear between fire_width points at most. Attention
/// takes its pieces (RelativeRow, framework/attention/bias.h) and gives their gradient back.
#include <algorithm>
#include <cmath>

#include "models/positions/distance_table.h"
#include "models/positions/position.h"

namespace lexring {

namespace {

std::vector<double> to_host(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

Tensor to_device(Runtime& runtime, const Shape& shape, Dtype dtype, const std::vector<double>& values) {
  if (dtype == Dtype::f64) return Tensor::from(runtime, shape, values);
  return Tensor::from(runtime, shape, std::vector<float>(values.begin(), values.end()));
}

constexpr const char *c_name = "position.fire.c", *multiplier_name = "position.fire.threshold",
                     *up_weight_name = "position.fire.up.weight", *up_bias_name = "position.fire.up.bias",
                     *down_weight_name = "position.fire.down.weight", *down_bias_name = "position.fire.down.bias";

/// This rank's parameters, of W units and H heads: the table of pieces, and the way back.
class Perceptron {
 public:
  Perceptron(const PositionParameters& parameters, double threshold)
      : c_(to_host(parameters.at(c_name).value)[0]),
        multiplier_(to_host(parameters.at(multiplier_name).value)[0]),
        threshold_(threshold),
        weight_(to_host(parameters.at(up_weight_name).value)),
        bias_(to_host(parameters.at(up_bias_name).value)),
        down_(to_host(parameters.at(down_weight_name).value)),
        down_bias_(to_host(parameters.at(down_bias_name).value)) {
    for (std::size_t k = 0; k < units(); ++k) {
      const double turn = -bias_[k] / weight_[k];
      if (turn > 0 && turn < 1) knots_.push_back(turn);  // relative distances are never 1
    }
    std::sort(knots_.begin(), knots_.end());
  }

  std::int64_t columns() const { return static_cast<std::int64_t>(3 * pieces() + 1); }

  std::vector<double> table() const {
    std::vector<double> rows;
    for (std::size_t h = 0; h < heads(); ++h) {
      std::vector<double> slopes(pieces()), values(pieces(), down_bias_[h]);
      for_active([&](std::size_t p, std::size_t k) {
        slopes[p] += down(h, k) * weight_[k];
        values[p] += down(h, k) * bias_[k];
      });
      rows.insert(rows.end(), slopes.begin(), slopes.end());
      rows.insert(rows.end(), values.begin(), values.end());
      rows.insert(rows.end(), {std::abs(c_), std::abs(multiplier_ * threshold_)});
      rows.insert(rows.end(), knots_.begin(), knots_.end());
    }
    return rows;
  }

  /// By name, from the gradient of the table.
  std::map<std::string, std::vector<double>> gradients(const std::vector<double>& dtable) const {
    std::vector<double> dweight(units()), dbias(units()), ddown(down_.size()), ddown_bias(heads());
    double dc = 0, dthreshold = 0;
    for (std::size_t h = 0; h < heads(); ++h) {
      const double* const dslope = &dtable[h * (3 * pieces() + 1)];
      const double* const dvalue = dslope + pieces();
      for_active([&](std::size_t p, std::size_t k) {
        ddown[h * units() + k] += weight_[k] * dslope[p] + bias_[k] * dvalue[p];
        dweight[k] += down(h, k) * dslope[p];
        dbias[k] += down(h, k) * dvalue[p];
      });
      for (std::size_t p = 0; p < pieces(); ++p) ddown_bias[h] += dvalue[p];
      dc += dvalue[pieces()];
      dthreshold += dvalue[pieces() + 1];
    }
    const auto sign = [](double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; };
    return {{c_name, {sign(c_) * dc}}, {multiplier_name, {sign(multiplier_) * threshold_ * dthreshold}},
            {up_weight_name, dweight}, {up_bias_name, dbias},
            {down_weight_name, ddown}, {down_bias_name, ddown_bias}};
  }

 private:
  std::size_t units() const { return weight_.size(); }
  std::size_t heads() const { return down_bias_.size(); }
  std::size_t pieces() const { return knots_.size() + 1; }
  double down(std::size_t head, std::size_t unit) const { return down_[head * units() + unit]; }
  /// body(p, k) for every unit k that is not 0 in piece p.
  template <class Body>
  void for_active(const Body& body) const {
    for (std::size_t p = 0; p < pieces(); ++p) {
      const double middle = ((p == 0 ? 0.0 : knots_[p - 1]) + (p == knots_.size() ? 1.0 : knots_[p])) / 2;
      for (std::size_t k = 0; k < units(); ++k) {
        if (weight_[k] * middle + bias_[k] > 0) body(p, k);
      }
    }
  }

  double c_, multiplier_, threshold_;
  std::vector<double> weight_, bias_;     ///< [W]
  std::vector<double> down_, down_bias_;  ///< [H, W], [H]
  std::vector<double> knots_;
};

class Fire : public PositionEncoding {
 public:
  Fire(std::int64_t width, double threshold) : width_(width), threshold_(threshold) {}

  std::vector<ParameterRow> parameters(const ModelConfig& model) const override {
    const double far = 1 / std::sqrt(static_cast<double>(width_));
    std::vector<ParameterRow> rows = {
        uniform(c_name, {1}, TensorCut::whole, {0.1, 0.1}),
        uniform(multiplier_name, {1}, TensorCut::whole, {1, 1}),
        uniform(up_weight_name, {width_, 1}, TensorCut::whole, {-1, 1}),
        uniform(up_bias_name, {width_}, TensorCut::whole, {-1, 1}),
        uniform(down_weight_name, {model.heads, width_}, TensorCut::rows, {-far, far}),
        uniform(down_bias_name, {model.heads}, TensorCut::rows, {-far, far}),
    };
    return rows;
  }

  Var bias_by_distance(Tape& tape, const PositionParameters& parameters, const HeadShare& own, std::int64_t /*longest*/,
                       Dtype master) const override {
    const Perceptron perceptron(parameters, threshold_);
    Var table(to_device(tape.runtime(), {own.heads, perceptron.columns()}, master, perceptron.table()));
    tape.record([&backend = tape.backend(), parameters, perceptron, master, slot = table.slot()] {
      const Tensor dtable = slot.take();
      if (!dtable.defined()) return;
      for (const auto& [name, values] : perceptron.gradients(to_host(dtable))) {
        const Tensor& gradient = parameters.at(name).gradient;
        if (gradient.defined()) backend.add(to_device(backend.runtime(), gradient.shape(), master, values), gradient);
      }
    });
    return table;
  }

  Tensor log_distance(Runtime& runtime, const PositionParameters& parameters, std::int64_t longest,
                      Dtype master) const override {
    const double c = std::abs(to_host(parameters.at(c_name).value)[0]);
    return logs_.make(runtime, 2, longest, master, {c}, [c](std::int64_t d, std::span<double> log) {
      const double scaled = c * static_cast<double>(d);
      log[0] = std::log1p(scaled), log[1] = static_cast<double>(d) / (1 + scaled);
    });
  }

 private:
  static ParameterRow uniform(const char* name, Shape shape, TensorCut cut, Interval initial) {
    ParameterRow row{name, std::move(shape), Initialiser::uniform, cut};
    row.use = Use::lookup;
    row.decayed = row.shape.size() > 1;
    row.initial.assign(static_cast<std::size_t>(row.shape[0]), initial);
    return row;
  }

  std::int64_t width_;
  double threshold_;
  mutable DistanceTable logs_;
};

std::unique_ptr<PositionEncoding> make(const ModelConfig&, const PositionConfig& position) {
  const std::int64_t width = position.own.whole("fire_width");
  const double threshold = position.own.number("fire_threshold");
  require_usage(width >= 1 && width <= 4096,
                "position.fire_width = {} is no width of a small perceptron; choose e.g. 32", width);
  require_usage(threshold > 0, "position.fire_threshold = {} is not positive; choose e.g. 512 tokens", threshold);
  return std::make_unique<Fire>(width, threshold);
}

constexpr PositionSetting settings[] = {
    {"fire_width", 32, 1, 4096, "units of FIRE's perceptron", "", true},
    {"fire_threshold", 512, 1e-3, 1e12, "queries before it count as if they stood there; learned from there", "tokens"},
};

}  // namespace

constinit const PositionMethod position_methods::fire = {
    .name = "fire",
    .make = make,
    .formula = "score += MLP(log(1 + c (n − m)) / log(1 + c max(n, L))), c and L learned",
    .source = "Li et al. 2024, Functional Interpolation for Relative Positions Improves Long Context Transformers",
    .settings = settings,
    .relative = true,
};

}  // namespace lexring
