#include "tests/parity/outcome.h"

#include <cmath>
#include <span>

#include "framework/optim/clip.h"
#include "jobs/launch/devices.h"
#include "jobs/training/run_directory.h"
#include "jobs/training/trainer.h"
#include "tests/parity/cases.h"

namespace lexring::parity {
namespace {

const std::string first_moment = "optimizer.first_moment.";

void run_steps(Trainer& trainer, std::int64_t count, Outcome& outcome) {
  for (std::int64_t n = 0; n < count; ++n) {
    const StepMetrics metrics = trainer.train_step();
    outcome.losses.push_back(metrics.loss);
    outcome.gradient_norms.push_back(metrics.gradient_norm);
  }
  trainer.run();  // no step is left: it saves
}

/// Every rank's name, place and bits of each parameter meet on every rank: copies of one part must be equal.
std::string find_drift(Transformer& model, Communicator& world) {
  std::string mine;
  for (const Parameter& parameter : model.parameters()) {
    const std::vector<float> values = parameter.value.to_host<float>();
    const std::string_view bits(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    mine += fmt::format("{} {} {}\n{:016x}\n", parameter.name, to_string(parameter.offset),
                        to_string(parameter.value.shape()), std::hash<std::string_view>()(bits));
  }
  std::map<std::string, std::string> bits_of;
  for (const std::vector<std::byte>& bytes : world.all_gather(std::as_bytes(std::span(mine)))) {
    std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto line = [&] {
      const std::size_t end = rest.find('\n');
      const std::string text(rest.substr(0, end));
      rest.remove_prefix(end + 1);
      return text;
    };
    while (!rest.empty()) {
      const std::string part = line(), bits = line();
      if (bits_of.emplace(part, bits).first->second != bits) return part;
    }
  }
  return {};
}

std::vector<double> read_tensor(const TensorSource& source, const std::string& name, Runtime& runtime) {
  const Shape shape = source.info(name).value().shape;
  const LogicalTensor whole{name, shape, Shape(shape.size(), 0), Tensor(runtime, shape, Dtype::f64)};
  source.read(whole);
  return whole.data.to_host<double>();
}

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

double distance(const std::vector<double>& x, const std::vector<double>& y) {
  require(x.size() == y.size(), "{} values were compared with {}", x.size(), y.size());
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(sum);
}

/// NaN is larger than anything.
bool larger(double error, double worst) { return !(error <= worst) && !std::isnan(worst); }

double largest_difference(const std::vector<double>& values, const std::vector<double>& expected) {
  require(values.size() == expected.size() && !expected.empty(), "{} steps were compared with {}", values.size(),
          expected.size());
  double worst = 0;
  for (std::size_t n = 0; n < values.size(); ++n) {
    const double error = std::abs(values[n] - expected[n]) / std::abs(expected[n]);
    if (larger(error, worst)) worst = error;
  }
  return worst;
}

using NamedTensors = std::map<std::string, std::vector<double>>;

/// A tensor whose norm is below `vanishing` of the whole's holds rounding noise: its difference is taken against the
/// whole. A single number may be what is left of many that cancel: its difference is taken against no less than `least`
/// of the whole.
void compare(const NamedTensors& tensors, const NamedTensors& expected, double vanishing, double least, double& worst,
             std::string& name) {
  require(tensors.size() == expected.size(), "{} tensors were compared with {}", tensors.size(), expected.size());
  double whole = 0;
  for (const auto& [key, values] : expected) whole = std::hypot(whole, norm(values));
  for (const auto& [key, values] : expected) {
    const auto found = tensors.find(key);
    require(found != tensors.end(), "the checkpoint has no {}", key);
    const double own = norm(values);
    const double apart = distance(found->second, values);  // 0 of a bias that stayed 0
    const double against = own < vanishing * whole ? whole : std::max(own, values.size() == 1 ? least * whole : 0.0);
    const double error = apart == 0 ? 0 : apart / against;
    if (!larger(error, worst)) continue;
    worst = error;
    name = key;
  }
}

}  // namespace

Outcome train(const Options& given, const Context& context, const Dataset& data) {
  const auto backend = make_backend(given.device);
  Communicator& world = context.world();
  Outcome outcome;
  Options options = given;
  options.train.steps = 1;
  {
    Trainer trainer(options, context, *backend, data, nullptr);
    if (world.rank() == 0) std::filesystem::create_directories(options.checkpoint.directory);
    world.barrier();
    run_steps(trainer, 1, outcome);
  }
  world.barrier();  // the checkpoint is there on every rank
  options.train.steps = steps;
  Trainer trainer(options, context, *backend, data, nullptr);
  trainer.resume(CheckpointReader(options.checkpoint.directory));
  run_steps(trainer, steps - 1, outcome);
  outcome.drift = find_drift(trainer.model(), world);
  return outcome;
}

Tensors read_tensors(const std::filesystem::path& directory, const Options& options, const Outcome& outcome) {
  const auto runtime = make_cpu_runtime();
  Tensors result;
  const CheckpointReader first(directory / "step-00000001"), last(directory / fmt::format("step-{:08}", steps));
  // The first step's moment is (1 - beta1) x gradient x clipping.
  const double scale =
      (1 - options.optimizer.beta1) * clip_scale(outcome.gradient_norms.front(), options.optimizer.clip);
  for (const std::string& name : first.names()) {
    if (name.rfind(first_moment, 0) != 0) continue;
    std::vector<double> gradient = read_tensor(first, name, *runtime);
    for (double& value : gradient) value /= scale;
    result.gradients[name.substr(first_moment.size())] = std::move(gradient);
  }
  for (const std::string& name : last.names()) {
    if (name.rfind("optimizer.", 0) != 0) result.parameters[name] = read_tensor(last, name, *runtime);
  }
  return result;
}

bool Errors::within() const { return loss <= 1e-5 && gradient_norm <= 1e-4 && gradient <= 1e-5 && parameter <= 1e-4; }

Errors compare(const Outcome& outcome, const Tensors& tensors, const Outcome& reference, const Tensors& expected) {
  Errors errors;
  errors.loss = largest_difference(outcome.losses, reference.losses);
  errors.gradient_norm = largest_difference(outcome.gradient_norms, reference.gradient_norms);
  compare(tensors.gradients, expected.gradients, 1e-7, 1e-4, errors.gradient, errors.worst_gradient);
  compare(tensors.parameters, expected.parameters, 0, 0, errors.parameter, errors.worst_parameter);
  return errors;
}

}  // namespace lexring::parity
