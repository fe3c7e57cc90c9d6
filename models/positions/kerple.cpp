/// KERPLE (Chi et al. 2022, "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation"): score += -r1
/// log(1 + r2 (n - m)), or -r1 (n - m)^r2, with two learned numbers per head, one pair for all layers. The kernel is
/// conditionally positive definite for r1, r2 > 0 and an exponent of at most 2: as its authors do, both are kept at
/// 0.01 or more, the exponent at 2 or less. They begin uniform: r1 of the logarithm and the exponent up to 2, the
/// others up to 1.
#include <array>
#include <cmath>

#include "framework/base/parallel_for.h"
#include "models/positions/distance_table.h"
#include "models/positions/position.h"

namespace lexring {

namespace {

/// The bias of a head at a distance, and what it changes by with r1 and r2.
struct Term {
  double value, by_r1, by_r2;
};

Term logarithm(double r1, double r2, double distance) {
  const double log = std::log1p(r2 * distance);
  return {-r1 * log, -log, -r1 * distance / (1 + r2 * distance)};
}

Term power(double r1, double r2, double distance) {
  if (distance == 0) return {0, 0, 0};
  const double power = std::pow(distance, r2);
  return {-r1 * power, -power, -r1 * power * std::log(distance)};
}

std::vector<double> to_host(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

class Kerple : public PositionEncoding {
 public:
  using Bias = Term (*)(double r1, double r2, double distance);
  /// `initial`, `domain`: of r1 and of r2.
  Kerple(Bias bias, std::vector<Interval> initial, std::vector<Interval> domain)
      : bias_(bias), initial_(std::move(initial)), domain_(std::move(domain)) {}

  std::vector<ParameterRow> parameters(const ModelConfig& model) const override {
    ParameterRow row{name, {2, model.heads}, Initialiser::uniform, TensorCut::columns};
    row.use = Use::lookup;
    row.initial = initial_;
    row.domain = domain_;
    return {row};
  }

  Var bias_by_distance(Tape& tape, const PositionParameters& parameters, const HeadShare& own, std::int64_t longest,
                       Dtype master) const override {
    const Vector& parameter = parameters.at(name);
    const std::vector<double> r = to_host(parameter.value);
    const auto heads = static_cast<std::size_t>(own.heads);
    Var table(table_.make(tape.runtime(), own.heads, longest, master, r, [&](std::int64_t d, std::span<double> bias) {
      for (std::size_t h = 0; h < heads; ++h) bias[h] = bias_(r[h], r[heads + h], static_cast<double>(d)).value;
    }));
    if (!parameter.gradient.defined()) return table;
    tape.record([&backend = tape.backend(), bias = bias_, r, gradient = parameter.gradient, slot = table.slot()] {
      const Tensor dtable = slot.take();
      if (dtable.defined()) backend.add(parameter_gradient(backend, bias, r, dtable), gradient);
    });
    return table;
  }

 private:
  /// [2, H] from the gradient of the table [H, distances].
  static Tensor parameter_gradient(Backend& backend, Bias bias, const std::vector<double>& r, const Tensor& dtable) {
    const std::vector<double> incoming = to_host(dtable);
    const auto heads = static_cast<std::size_t>(dtable.dim(0)), distances = static_cast<std::size_t>(dtable.dim(1));
    std::vector<double> sums(2 * heads);
    parallel_tasks(dtable.dim(0), [&](std::int64_t head) {
      const auto h = static_cast<std::size_t>(head);
      for (std::size_t d = 0; d < distances; ++d) {
        const Term term = bias(r[h], r[heads + h], static_cast<double>(d));
        sums[h] += incoming[h * distances + d] * term.by_r1;
        sums[heads + h] += incoming[h * distances + d] * term.by_r2;
      }
    });
    const Shape shape = {2, dtable.dim(0)};
    if (dtable.dtype() == Dtype::f64) return Tensor::from(backend.runtime(), shape, sums);
    return Tensor::from(backend.runtime(), shape, std::vector<float>(sums.begin(), sums.end()));
  }

  static constexpr const char* name = "position.kerple";
  Bias bias_;
  std::vector<Interval> initial_, domain_;
  mutable DistanceTable table_;
};

constexpr double least = 0.01;

std::unique_ptr<PositionEncoding> make_log(const ModelConfig&, const PositionConfig&) {
  return std::make_unique<Kerple>(logarithm, std::vector<Interval>{{least, 2}, {least, 1}},
                                  std::vector<Interval>{{.low = least}, {.low = least}});
}

std::unique_ptr<PositionEncoding> make_power(const ModelConfig&, const PositionConfig&) {
  return std::make_unique<Kerple>(power, std::vector<Interval>{{least, 1}, {least, 2}},
                                  std::vector<Interval>{{.low = least}, {.low = least, .high = 2}});
}

}  // namespace

constinit const PositionMethod position_methods::kerple_log = {
    .name = "kerple_log",
    .make = make_log,
    .formula = "score −= r₁ log(1 + r₂ (n − m)), r₁ and r₂ learned per head",
    .source = "Chi et al. 2022, KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
};

constinit const PositionMethod position_methods::kerple_power = {
    .name = "kerple_power",
    .make = make_power,
    .formula = "score −= r₁ (n − m)^r₂, r₁ and r₂ learned per head",
    .source = "Chi et al. 2022, KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
};

}  // namespace lexring
