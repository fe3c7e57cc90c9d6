#include "jobs/commands/golden_comparison.h"

#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

// A gradient that is 0 in mathematics (a key bias under a shift-invariant softmax) has only rounding noise to compare
// with: below this part of the norm of all, it is that noise which is compared with the norm of all. So is the value
// that AdamW makes of such gradients, which it divides by their own size and eps.
constexpr double vanishing = 1e-12;

using Tell = std::function<void(const GoldenDifference&)>;

std::vector<double> to_host(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

/// Of these rows, what stands in the file.
std::vector<double> read_rows(const Hdf5File& file, const std::string& path, const Parameter& rows) {
  std::vector<double> values(static_cast<std::size_t>(element_count(rows.shape())));
  if (!values.empty())
    file.read(path, H5Type::f64, rows.offset, rows.shape(), std::as_writable_bytes(std::span(values)));
  return values;
}

/// Values or gradients (`tensor`) of all trained parameters with those in the group `group` of a case: each rank
/// compares the rows that it owns. `least`: GoldenTolerance::least_gradient. `vanished`: whose gradients were 0, by
/// parameter; gradients say so, their values are told it.
void compare_parameters(const std::string& group, const Hdf5File& file, const std::string& name, Replica& replica,
                        Tensor Parameter::*tensor, Communicator& world, double tolerance, double least,
                        std::vector<bool>& vanished, const Tell& tell) {
  const std::vector<Parameter>& parameters = replica.model().trained();
  require(file.members(name + "/gradients").size() <= parameters.size(),
          "{}/gradients has members that are no parameters or are not trained here", name);
  std::map<std::string, std::size_t> places;
  for (const Parameter& parameter : parameters) places.emplace(parameter.name, places.size());
  std::vector<double> differences(parameters.size()), references(parameters.size()), elements(parameters.size());
  for (const DataParallel::Owned& own : replica.owned()) {
    const std::size_t i = places.at(own.rows.name);
    const std::vector<double> ours = to_host(own.rows.*tensor);
    const std::vector<double> theirs = read_rows(file, name + "/" + group + own.rows.name, own.rows);
    for (std::size_t n = 0; n < ours.size(); ++n) {
      differences[i] += (ours[n] - theirs[n]) * (ours[n] - theirs[n]);
      references[i] += theirs[n] * theirs[n];
    }
    elements[i] += static_cast<double>(ours.size());
  }
  for (auto* sums : {&differences, &references, &elements}) world.all_reduce(std::span<double>(*sums), Reduce::sum);
  const double whole = std::sqrt(std::accumulate(references.begin(), references.end(), 0.0));
  if (tensor == &Parameter::gradient) {
    for (const double squares : references) vanished.push_back(std::sqrt(squares) < vanishing * whole);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    require(file.shape(name + "/" + group + parameters[i].name) == parameters[i].full_shape,
            "{}/{}{} is not {}, the shape of that parameter", name, group, parameters[i].name,
            to_string(parameters[i].full_shape));
    require(elements[i] == static_cast<double>(element_count(parameters[i].full_shape)),
            "{} elements of {} were compared, which has {}", elements[i], parameters[i].name,
            element_count(parameters[i].full_shape));
    const double norm = std::sqrt(references[i]), at_least = elements[i] == 1 ? least * whole : 0;
    tell({group + parameters[i].name, std::sqrt(differences[i]), vanished[i] ? whole : std::max(norm, at_least),
          tolerance});
  }
}

/// A tensor that every rank has whole.
GoldenDifference difference_of(const std::string& what, const Tensor& ours, const std::vector<double>& reference,
                               double tolerance) {
  const std::vector<double> values = to_host(ours);
  require(values.size() == reference.size(), "{} values were compared with {}", values.size(), reference.size());
  double difference = 0, whole = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    difference += (values[i] - reference[i]) * (values[i] - reference[i]);
    whole += reference[i] * reference[i];
  }
  return {what, std::sqrt(difference), std::sqrt(whole), tolerance};
}

}  // namespace

GoldenTolerance golden_tolerance(Precision precision) {
  // A gradient of one number, as those of FIRE's c and threshold, is what is left of many that cancel, and so of their
  // rounding.
  constexpr double least = 1e-4;
  switch (precision) {
    case Precision::fp64:
      return {.loss = 1e-9, .logits = 1e-9, .gradient = 1e-9, .step_losses = 1e-9, .parameters = 1e-9};
    // AdamW divides a gradient by its own size, so rounding noise in a gradient near 0 moves a parameter by a whole
    // step: only losses compare.
    case Precision::fp32:
      return {.loss = 1e-5,
              .logits = 1e-5,
              .gradient = 3e-5,
              .step_losses = 1e-4,
              .parameters = 0,
              .least_gradient = least};
    case Precision::bf16:
      return {
          .loss = 3e-3, .logits = 4e-2, .gradient = 0.1, .step_losses = 0, .parameters = 0, .least_gradient = least};
  }
  fail("an unknown precision");
}

void compare_case(Replica& replica, const Hdf5File& file, const std::string& name, const ModelBatch& batch,
                  Communicator& world, const GoldenTolerance& tolerance, const Tell& tell) {
  const auto one = [&](const std::string& what, double ours, double reference, double allowed) {
    tell({what, std::abs(ours - reference), std::abs(reference), allowed});
  };
  tell(difference_of("logits", replica.model().logits(batch, Transformer::Rows::all),
                     file.read_all<double>(name + "/logits"), tolerance.logits));
  const std::vector<double> losses = file.doubles_attribute(name + "/adamw", "losses");
  require(losses.size() == 4, "{}: {}/adamw has {} losses instead of 4", file.path().string(), name, losses.size());
  std::vector<bool> vanished;
  one("loss", replica.step({batch}, golden_lr).loss, file.double_attribute(name, "loss"), tolerance.loss);
  compare_parameters("gradients/", file, name, replica, &Parameter::gradient, world, tolerance.gradient,
                     tolerance.least_gradient, vanished, tell);
  for (std::size_t step = 1; step < 3 && tolerance.step_losses > 0; ++step)
    one(fmt::format("loss after {}", counted(step, "step")), replica.step({batch}, golden_lr).loss, losses[step],
        tolerance.step_losses);
  if (tolerance.parameters == 0) return;
  compare_parameters("adamw/", file, name, replica, &Parameter::value, world, tolerance.parameters, 0, vanished, tell);
  one("loss after 3 steps", replica.step({batch}, golden_lr).loss, losses[3], tolerance.parameters);
}

void GoldenResult::add(const GoldenDifference& compared, const std::function<const GoldenMoves&()>& moves) {
  const auto relative = [&](double difference) {
    return compared.scale > 0 ? difference / compared.scale : difference;
  };
  const double ours = relative(compared.difference);
  double allowed = compared.tolerance;
  if (!(ours <= allowed)) {  // as NaN is not
    const auto moved = moves().find(compared.what);
    if (moved != moves().end()) allowed = std::max(allowed, 2 * relative(moved->second));
  }
  if (!(ours <= allowed)) verdict = Verdict::failed;
  if (!worst.empty() && (std::isnan(error) || ours / allowed <= error / tolerance)) return;
  worst = compared.what;
  error = ours;
  tolerance = allowed;
}

}  // namespace lexring
