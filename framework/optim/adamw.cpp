#include "framework/optim/adamw.h"

#include <algorithm>

namespace lexring {

namespace {

template <class T>
void clamp_rows(const Parameter& parameter) {
  const Tensor& value = parameter.value;
  std::vector<T> values = value.to_host<T>();
  const auto width = static_cast<std::size_t>(value.row_elements());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Interval& own = parameter.domain[static_cast<std::size_t>(parameter.offset[0]) + i / width];
    values[i] = std::clamp(values[i], static_cast<T>(own.low), static_cast<T>(own.high));
  }
  value.runtime().copy_from_host(value.raw(), reinterpret_cast<const std::byte*>(values.data()), value.bytes());
}

/// On the host: parameters with a domain have a few numbers per head.
void keep_in_domain(const Parameter& parameter) {
  if (parameter.domain.empty()) return;
  if (parameter.value.dtype() == Dtype::f64) clamp_rows<double>(parameter);
  else clamp_rows<float>(parameter);
}

}  // namespace

void check(const AdamWHyper& hyper) {
  require_usage(hyper.beta1 >= 0 && hyper.beta1 < 1, "optimizer.beta1 = {} is not in [0, 1); choose e.g. 0.9",
                hyper.beta1);
  require_usage(hyper.beta2 >= 0 && hyper.beta2 < 1, "optimizer.beta2 = {} is not in [0, 1); choose e.g. 0.95",
                hyper.beta2);
  require_usage(static_cast<float>(hyper.eps) > 0,
                "optimizer.eps = {} is 0 or less in f32: a gradient of 0 would divide by 0; choose e.g. 1e-8",
                hyper.eps);
  require_usage(hyper.weight_decay >= 0,
                "optimizer.weight_decay = {} is negative: weights would grow; choose 0 or more", hyper.weight_decay);
}

AdamWOptimizer::AdamWOptimizer(Backend& backend, std::vector<Parameter> parameters, const AdamWHyper& hyper)
    : backend_(&backend), parameters_(std::move(parameters)), hyper_(hyper) {
  check(hyper);
  const MemoryPurpose purpose("optimizer");
  for (const Parameter& parameter : parameters_) {
    const Tensor& value = parameter.value;
    Moments moments{Tensor(backend.runtime(), value.shape(), value.dtype()),
                    Tensor(backend.runtime(), value.shape(), value.dtype())};
    backend.fill(moments.first, 0.0);
    backend.fill(moments.second, 0.0);
    moments_.push_back(std::move(moments));
  }
}

void AdamWOptimizer::step(double lr, double gradient_scale) {
  ++steps_;
  std::vector<AdamWParameter> calls;
  calls.reserve(moments_.size());
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const Parameter& parameter = parameters_[i];
    const bool copies = parameter.compute.defined() && parameter.compute.raw() != parameter.value.raw();
    calls.push_back({.value = parameter.value,
                     .gradient = parameter.gradient,
                     .first_moment = moments_[i].first,
                     .second_moment = moments_[i].second,
                     .compute = copies ? parameter.compute : Tensor(),
                     .weight_decay = parameter.decayed ? hyper_.weight_decay : 0.0});
  }
  backend_->adamw({.lr = lr,
                   .beta1 = hyper_.beta1,
                   .beta2 = hyper_.beta2,
                   .eps = hyper_.eps,
                   .step = steps_,
                   .gradient_scale = gradient_scale},
                  calls);
  for (const Parameter& parameter : parameters_) keep_in_domain(parameter);
}

}  // namespace lexring
