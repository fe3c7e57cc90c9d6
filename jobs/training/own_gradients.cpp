#include "jobs/training/own_gradients.h"

#include <algorithm>
#include <cmath>

namespace lexring {
namespace {

/// A matrix as it is; a vector as one row.
Tensor as_rows(const Tensor& gradient) {
  const std::int64_t width = gradient.shape().size() > 1 ? gradient.row_elements() : gradient.elements();
  return gradient.reshape({gradient.elements() / std::max<std::int64_t>(width, 1), width});
}

}  // namespace

OwnGradients::OwnGradients(Backend& backend, const std::vector<Parameter>& parameters,
                           std::vector<std::vector<std::size_t>> sections)
    : backend_(&backend), parameters_(&parameters), sections_(std::move(sections)) {
  std::int64_t widest = 0;
  for (const Parameter& parameter : parameters) widest = std::max(widest, as_rows(parameter.gradient).row_elements());
  if (widest > 0) sums_ = Tensor(backend.runtime(), {widest}, parameters.front().gradient.dtype());
}

void OwnGradients::begin_step() {
  if (sums_.defined()) backend_->fill(sums_, 0.0);
}

void OwnGradients::reached(std::size_t section) {
  for (const std::size_t index : sections_.at(section)) {
    const Tensor rows = as_rows((*parameters_)[index].gradient);
    if (rows.elements() > 0) backend_->linear_backward_weight(rows, {}, {}, sums_.slice(0, rows.row_elements()));
  }
}

std::vector<std::byte> OwnGradients::sums() const {
  std::vector<std::byte> bytes(sums_.defined() ? sums_.bytes() : 0);
  if (bytes.empty()) return bytes;
  sums_.runtime().copy_to_host(bytes.data(), sums_.raw(), bytes.size());
  sums_.runtime().synchronise();
  return bytes;
}

bool OwnGradients::finite() const { return !sums_.defined() || std::isfinite(backend_->sum_of_squares(sums_)); }

std::vector<Parameter> OwnGradients::section(std::size_t section) const {
  std::vector<Parameter> parameters;
  for (const std::size_t index : sections_.at(section)) parameters.push_back((*parameters_)[index]);
  return parameters;
}

}  // namespace lexring
