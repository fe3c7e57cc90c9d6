#include "jobs/commands/golden_case.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>

#include "framework/base/counted.h"
#include "framework/nn/init.h"
#include "framework/optim/adamw.h"
#include "jobs/commands/golden_config.h"
#include "models/config_check.h"
#include "models/patterns.h"
#include "models/weights.h"
#include "parallel/sequence/exchange_choice.h"
#include "parallel/tensor/whole_tensor.h"

namespace lexring {

namespace {

/// What the case asks for, but neither lexring nor this mesh has.
class UnsupportedError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// Documents are ids per token; the model takes where each begins, and where its first `sinks` tokens end.
void fill_documents(ModelBatch& batch, const std::vector<std::int64_t>& documents, std::int64_t sinks) {
  for (const TokenTable::Sequence& sequence : batch.tokens.sequences) {
    std::int64_t begin = sequence.first;
    for (std::int64_t n = sequence.first; n < sequence.first + sequence.count; ++n) {
      const auto id = [&](std::int64_t row) { return documents.at(static_cast<std::size_t>(row)); };
      if (id(n) != id(begin)) begin = n;
      std::int64_t last_sink = begin;
      while (last_sink + 1 < std::min(begin + sinks, sequence.first + sequence.count) && id(last_sink + 1) == id(begin))
        ++last_sink;
      batch.document_start.push_back(batch.tokens.position[static_cast<std::size_t>(begin)]);
      batch.sink_end.push_back(batch.tokens.position[static_cast<std::size_t>(last_sink)] + 1);
    }
  }
}

/// Layers with sinks have equally many (models/config_check.h).
std::int64_t sinks_of(const ModelConfig& config) {
  std::int64_t sinks = 0;
  for (std::int64_t n = 0; n < config.layers; ++n)
    sinks = std::max(sinks, make_pattern(config.layer(n).attention)->sinks());
  return sinks;
}

ModelBatch read_batch(const Hdf5File& file, const std::string& name, const ModelConfig& config) {
  const std::vector<std::int64_t> shape = file.shape(name + "/tokens");
  require(shape.size() == 2, "{}: {}/tokens is not [batch, length]; is this a golden file?", file.path().string(),
          name);
  ModelBatch batch;
  batch.tokens = dense_tokens(shape[0], shape[1]);
  batch.ids = file.read_all<std::int32_t>(name + "/tokens");
  batch.targets = file.read_all<std::int32_t>(name + "/targets");
  if (file.exists(name + "/positions")) {
    const auto positions = file.read_all<double>(name + "/positions");
    for (const double position : positions) {
      if (position != std::floor(position) || position < 0)
        throw UnsupportedError(fmt::format("position {}, which is no whole number, is not supported yet", position));
    }
    for (std::size_t n = 0; n < batch.ids.size(); ++n)
      batch.tokens.position[n] = static_cast<std::int64_t>(positions.at(n % static_cast<std::size_t>(shape[1])));
  }
  if (file.exists(name + "/documents"))
    fill_documents(batch, file.read_all<std::int64_t>(name + "/documents"), sinks_of(config));
  return batch;
}

std::vector<double> to_host(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

double distance(const std::vector<double>& x, const std::vector<double>& y) {
  require(x.size() == y.size(), "{} values were compared with {}", x.size(), y.size());
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(sum);
}

/// Keeps the comparison that is furthest along to its tolerance, or beyond it.
class Comparison {
 public:
  explicit Comparison(GoldenResult& result) : result_(result) {}
  void add(const std::string& what, double difference, double scale, double tolerance) {
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

 private:
  GoldenResult& result_;
};

void compare_gradients(Comparison& comparison, const Hdf5File& file, const std::string& name, Transformer& model,
                       const Context& context, double tolerance) {
  std::vector<std::vector<double>> references;
  double whole = 0;
  for (const Parameter& parameter : model.parameters()) {
    references.push_back(file.read_all<double>(name + "/gradients/" + parameter.name));
    whole = std::hypot(whole, norm(references.back()));
  }
  // A gradient that is 0 in mathematics (a key bias under a shift-invariant softmax) has only rounding noise to compare
  // with.
  constexpr double vanishing = 1e-12;
  for (std::size_t i = 0; i < references.size(); ++i) {
    const Parameter& parameter = model.parameters()[i];
    const double own = norm(references[i]);
    comparison.add("gradients/" + parameter.name,
                   distance(whole_tensor(parameter, parameter.gradient, context.axis(Axis::tp)), references[i]),
                   own < vanishing * whole ? whole : own, tolerance);
  }
}

std::int64_t count_targets(const ModelBatch& batch) {
  return std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t target) { return target >= 0; });
}

/// Each rank's gradients are of its own part of the sequences, and of what it computes with parameters that others hold
/// too.
void sum_gradients(Transformer& model, const Context& context) {
  model.reduce_replicated_gradients();
  const Tensor gradients = model.gradients();
  context.replicas().start_all_reduce({gradients.raw(), gradients.bytes()}, gradients.dtype()).wait();
}

void run(GoldenResult& result, const Hdf5File& file, const std::string& name, const ModelRuntime& runtime,
         const Context& context, Backend& backend) {
  const int tp = context.mesh().size(Axis::tp);
  ModelConfig config;
  try {  // what this case asks for; what the run asks for (precision, device) is refused for all cases
    config =
        golden_config(file.string_attribute(name, "config"), fmt::format("{}: case {}", file.path().string(), name));
    check(config);
    check_tensor_parallel(config, tp);
  } catch (const UsageError& error) {
    throw UnsupportedError(error.what());
  }
  if (!heads_fit(config.heads / tp, std::max<std::int64_t>(config.kv_heads / tp, 1), context.mesh().ulysses))
    throw UnsupportedError(fmt::format("{} with {} do not fit this mesh", counted(config.heads, "head"),
                                       counted(config.kv_heads, "key and value head")));
  Transformer model(config, runtime, context, backend);
  for (const Parameter& parameter : model.parameters()) {
    const std::string weight = name + "/weights/" + parameter.name;
    require(file.shape(weight) == parameter.full_shape, "{}: {} has shape {}, the model's is {}", file.path().string(),
            weight, to_string(file.shape(weight)), to_string(parameter.full_shape));
    set_values(parameter, own_part(parameter, file.read_all<double>(weight)));
  }
  model.refresh_compute();

  const GoldenTolerance tolerance = golden_tolerance(runtime.precision);
  Comparison comparison(result);
  const ModelBatch batch = read_batch(file, name, config);
  const auto logits = file.read_all<double>(name + "/logits");
  comparison.add("logits", distance(to_host(model.logits(batch, Transformer::Rows::all)), logits), norm(logits),
                 tolerance.logits);

  const double scale = 1.0 / static_cast<double>(count_targets(batch));
  const std::vector<double> losses = file.doubles_attribute(name + "/adamw", "losses");
  require(losses.size() == 4, "{}: {}/adamw has {} losses instead of 4", file.path().string(), name, losses.size());
  AdamWOptimizer optimizer(backend, model.parameters(),
                           AdamWHyper{.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1});
  for (std::size_t step = 0; step < losses.size(); ++step) {
    model.zero_gradients();
    std::array<double, 1> nll = {model.train_step(batch, scale).nll_sum()};
    context.replicas().all_reduce(std::span<double>(nll), Reduce::sum);
    sum_gradients(model, context);
    const double loss = nll[0] * scale;
    if (step == 0) {
      const double reference = file.double_attribute(name, "loss");
      comparison.add("loss", std::abs(loss - reference), std::abs(reference), tolerance.loss);
      compare_gradients(comparison, file, name, model, context, tolerance.gradient);
    }
    // The loss of each of the three steps; the one after the last, and the parameters, where AdamW does not amplify
    // rounding (see below).
    const double allowed = step < 3 ? tolerance.step_losses : tolerance.parameters;
    comparison.add(fmt::format("loss after {}", counted(step, "step")), std::abs(loss - losses[step]),
                   std::abs(losses[step]), allowed);
    if (step < 3) optimizer.step(1e-2);
  }
  for (const Parameter& parameter : model.parameters()) {
    const auto reference = file.read_all<double>(name + "/adamw/" + parameter.name);
    comparison.add("adamw/" + parameter.name,
                   distance(whole_tensor(parameter, parameter.value, context.axis(Axis::tp)), reference),
                   norm(reference), tolerance.parameters);
  }
}

}  // namespace

GoldenTolerance golden_tolerance(Precision precision) {
  switch (precision) {
    case Precision::fp64:
      return {.loss = 1e-9, .logits = 1e-9, .gradient = 1e-9, .step_losses = 1e-9, .parameters = 1e-9};
    // AdamW divides a gradient by its own size, so rounding noise in a gradient near 0 moves a parameter by a whole
    // step: only losses compare.
    case Precision::fp32:
      return {.loss = 1e-5, .logits = 1e-5, .gradient = 3e-5, .step_losses = 1e-4, .parameters = 0};
    case Precision::bf16:
      return {.loss = 3e-3, .logits = 4e-2, .gradient = 0.1, .step_losses = 0, .parameters = 0};
  }
  fail("an unknown precision");
}

GoldenResult run_golden_case(const Hdf5File& file, const std::string& name, const ModelRuntime& runtime,
                             const Context& context, Backend& backend) {
  GoldenResult result;
  require(file.has_attribute(name, "config"),
          "{}: group {} is no golden case: it has no attribute config; is this a golden file?", file.path().string(),
          name);
  try {
    run(result, file, name, runtime, context, backend);
  } catch (const UnsupportedError& error) {
    result.verdict = GoldenResult::Verdict::not_supported;
    result.reason = error.what();
  }
  return result;
}

}  // namespace lexring
