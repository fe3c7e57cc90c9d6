#include "jobs/commands/golden_comparison.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <span>

#include "framework/base/error.h"

namespace lexring {
namespace {

// A gradient that is 0 in mathematics (a key bias under a shift-invariant softmax) has only rounding noise to compare
// with: below this part of the norm of all, it is that noise which is compared with the norm of all. So is the value
// that AdamW makes of such gradients, which it divides by their own size and eps.
constexpr double vanishing = 1e-12;

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

}  // namespace

FirstUpdate::FirstUpdate(const Hdf5File& file, const std::string& name, Replica& replica, double lr, double eps) {
  const auto update = [&](double g) { return -lr * g / (std::abs(g) + eps); };
  for (const DataParallel::Owned& own : replica.owned()) {
    std::vector<double> values = to_host(own.rows.gradient);
    const std::vector<double> theirs = read_rows(file, name + "/gradients/" + own.rows.name, own.rows);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = update(values[i]) - update(theirs[i]);
    differences_.push_back(std::move(values));
  }
}

double FirstUpdate::share_of_loss(Replica& replica, Communicator& world) const {
  double share = 0;
  const std::vector<DataParallel::Owned> owned = replica.owned();
  for (std::size_t n = 0; n < owned.size(); ++n) {
    const std::vector<double> gradient = to_host(owned[n].rows.gradient);
    share = std::inner_product(gradient.begin(), gradient.end(), differences_[n].begin(), share);
  }
  world.all_reduce(std::span(&share, 1), Reduce::sum);
  return share;
}

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

void GoldenComparison::add(const std::string& what, double difference, double scale, double tolerance) {
  if (tolerance == 0) return;
  const double error = scale > 0 ? difference / scale : difference;
  const bool within = error <= tolerance;  // NaN is not
  if (!within) result_.verdict = GoldenResult::Verdict::failed;
  if (!result_.worst.empty() && within && error / tolerance <= result_.error / result_.tolerance) return;
  if (!result_.worst.empty() && std::isnan(result_.error)) return;
  if (!within && !result_.worst.empty() && result_.error > result_.tolerance &&
      error / tolerance < result_.error / result_.tolerance)
    return;
  result_.worst = what;
  result_.error = error;
  result_.tolerance = tolerance;
}

void GoldenComparison::add(const std::string& what, const Tensor& ours, const std::vector<double>& reference,
                           double tolerance) {
  const std::vector<double> values = to_host(ours);
  require(values.size() == reference.size(), "{} values were compared with {}", values.size(), reference.size());
  double difference = 0, whole = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    difference += (values[i] - reference[i]) * (values[i] - reference[i]);
    whole += reference[i] * reference[i];
  }
  add(what, std::sqrt(difference), std::sqrt(whole), tolerance);
}

void GoldenComparison::add_parameters(const std::string& group, const Hdf5File& file, const std::string& name,
                                      Replica& replica, Tensor Parameter::*tensor, Communicator& world,
                                      double tolerance, double least) {
  if (tolerance == 0) return;
  const std::vector<Parameter>& parameters = replica.model().parameters();
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
    vanished_.clear();
    for (const double squares : references) vanished_.push_back(std::sqrt(squares) < vanishing * whole);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    require(file.shape(name + "/" + group + parameters[i].name) == parameters[i].full_shape,
            "{}/{}{} is not {}, the shape of that parameter", name, group, parameters[i].name,
            to_string(parameters[i].full_shape));
    require(elements[i] == static_cast<double>(element_count(parameters[i].full_shape)),
            "{} elements of {} were compared, which has {}", elements[i], parameters[i].name,
            element_count(parameters[i].full_shape));
    const double norm = std::sqrt(references[i]), at_least = elements[i] == 1 ? least * whole : 0;
    add(group + parameters[i].name, std::sqrt(differences[i]),
        !vanished_.empty() && vanished_[i] ? whole : std::max(norm, at_least), tolerance);
  }
}

}  // namespace lexring
