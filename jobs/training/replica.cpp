#include "jobs/training/replica.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "framework/optim/clip.h"
#include "jobs/training/training_batches.h"
#include "parallel/checkpoint/agree.h"

namespace lexring {
namespace {

ModelRuntime held_as(ModelRuntime runtime, Shard shard, const Context& context) {
  runtime.held = held_by_model(shard, context.replicas().size());
  return runtime;
}

LogicalTensor part_of(const Parameter& parameter, const std::string& name, const Tensor& data) {
  return {name, parameter.full_shape, parameter.offset, data};
}

/// Written by one rank each, as rows of trained parameters are.
std::vector<Parameter> frozen_rows(Transformer& model, const Communicator& replicas) {
  std::vector<Parameter> frozen, own;
  for (const Parameter& parameter : model.parameters()) {
    if (!parameter.gradient.defined() && parameter.copy == 0) frozen.push_back(parameter);
  }
  const auto shares = share_rows(frozen, replicas.size());
  for (const RowShare& share : shares[static_cast<std::size_t>(replicas.rank())])
    own.push_back(rows_of(frozen[share.parameter], share));
  return own;
}

std::string first_moment(const Parameter& parameter) { return "optimizer.first_moment." + parameter.name; }
std::string second_moment(const Parameter& parameter) { return "optimizer.second_moment." + parameter.name; }

}  // namespace

ReplicaSettings replica_settings(const Options& options) {
  return {.model = options.model,
          .runtime = runtime_of(options),
          .optimizer = adamw_hyper(options),
          .shard = options.optimizer.shard,
          .clip = options.optimizer.clip};
}

Replica::Replica(const ReplicaSettings& settings, const Context& context, Backend& backend)
    : context_(&context),
      backend_(&backend),
      clip_(settings.clip),
      model_(settings.model, held_as(settings.runtime, settings.shard, context), context, backend),
      frozen_(frozen_rows(model_, context.replicas())),
      data_(context, backend, model_.trained(), model_.gradients(), model_.gradient_sections(), settings.optimizer,
            settings.shard),
      own_gradients_(backend, model_.trained(), model_.gradient_sections()) {}

void Replica::initialise(std::uint64_t seed) {
  model_.initialise(seed);
  for (const Parameter& rows : data_.masters()) model_.initialise(rows, seed);
}

void Replica::load_weights(const TensorSource& source, Missing missing) {
  agree(context_->world(), [&] {
    load_parameters(source, model_, missing);
    for (const Parameter& rows : data_.masters()) {
      if (!may_be_missing(missing, source, model_, rows)) source.read(part_of(rows, rows.name, rows.value));
    }
  });
}

void Replica::load(const CheckpointReader& checkpoint) {
  checkpoint.verify(context_->world());
  load_weights(checkpoint);
  agree(context_->world(), [&] {
    AdamWOptimizer& optimizer = data_.optimizer();
    for (std::size_t i = 0; i < optimizer.parameters().size(); ++i) {
      const Parameter& parameter = optimizer.parameters()[i];
      checkpoint.read(part_of(parameter, first_moment(parameter), optimizer.moments()[i].first));
      checkpoint.read(part_of(parameter, second_moment(parameter), optimizer.moments()[i].second));
    }
    optimizer.set_steps(checkpoint.state().step - checkpoint.state().skipped_steps);
  });
}

/// What a micro-batch's backward calls. Where several ranks compute, one may be the only one that is not finite.
SectionReached Replica::reached(bool last) {
  SectionReached sum = data_.reached(last ? DataParallel::MicroBatch::last : DataParallel::MicroBatch::more_to_come);
  const bool watched = context_->world().size() > 1 && (sum || last);
  if (!watched && !hooks_.gradients) return sum;
  return [this, watched, sum = std::move(sum)](std::size_t section) {
    if (hooks_.gradients) hooks_.gradients(own_gradients_.section(section));
    if (watched) own_gradients_.reached(section);
    if (sum) sum(section);
  };
}

StepResult Replica::compute(const std::vector<ModelBatch>& micro_batches, const Tell& tell) {
  std::int64_t targets = 0;
  for (const ModelBatch& batch : micro_batches) targets += counted_targets(batch);
  // The ranks of cp and tp compute one batch together.
  context_->axis(Axis::dp).all_reduce(std::span(&targets, 1), Reduce::sum);
  const double scale = 1.0 / static_cast<double>(std::max<std::int64_t>(targets, 1));

  data_.begin_step();
  own_gradients_.begin_step();
  double flops = 0;
  std::vector<LossResult> losses;  // read when all passes are under way: nobody waits for the device between them
  for (const ModelBatch& batch : micro_batches) {
    flops += model_.step_flops(batch);
    losses.push_back(model_.train_step(batch, scale, reached(&batch == &micro_batches.back())));
  }
  own_loss_ = 0;
  for (const LossResult& loss : losses) own_loss_ += loss.nll_sum();

  // Ranks of cp have parts of these, ranks of tp the same: each is counted once, and is one number on all ranks.
  const bool counts = context_->axis(Axis::tp).rank() == 0;
  std::vector<double> values = {counts ? own_loss_ : 0.0, counts ? flops : 0.0};
  const std::vector<double> told = tell ? tell() : std::vector<double>();
  values.insert(values.end(), told.begin(), told.end());
  context_->world().all_reduce(std::span<double>(values), Reduce::sum);

  StepResult result;
  result.loss = targets > 0 ? values[0] * scale : std::numeric_limits<double>::quiet_NaN();
  result.flops = values[1];
  result.sums.assign(values.begin() + 2, values.end());
  {
    const TraceRange trace("gradients of all replicas");
    result.gradient_norm = data_.finish_gradients();
  }
  result.finite = (targets == 0 || std::isfinite(result.loss)) && std::isfinite(result.gradient_norm);
  return result;
}

Replica::OwnPart Replica::own_part() const {
  return {own_loss_, own_gradients_.sums(), std::isfinite(own_loss_) && own_gradients_.finite()};
}

void Replica::update(double lr, double gradient_norm) {
  const TraceRange trace("optimizer");
  data_.step(lr, clip_scale(gradient_norm, clip_));
  if (hooks_.values) hooks_.values(model_.parameters());
}

StepResult Replica::step(const std::vector<ModelBatch>& micro_batches, double lr, const Tell& tell) {
  const StepResult result = compute(micro_batches, tell);
  if (result.finite) update(lr, result.gradient_norm);
  return result;
}

std::optional<Drift> Replica::find_drift(bool moments) {
  std::vector<ReplicatedPart> parts = replicated_parts(model_.parameters());
  if (moments && !data_.sharded()) {
    AdamWOptimizer& optimizer = data_.optimizer();
    for (std::size_t i = 0; i < optimizer.parameters().size(); ++i) {
      const Parameter& parameter = optimizer.parameters()[i];
      parts.push_back({first_moment(parameter), optimizer.moments()[i].first, parameter.copies});
      parts.push_back({second_moment(parameter), optimizer.moments()[i].second, parameter.copies});
    }
  }
  return compare_replicas(*context_, parts);
}

bool Replica::weights_are_finite() {
  std::vector<Tensor> weights;
  for (const Parameter& rows : frozen_) weights.push_back(rows.value);
  for (const DataParallel::Owned& rows : owned()) weights.push_back(rows.rows.value);
  std::array<double, 1> sum = {backend_->sum_of_squares(weights)};
  context_->world().all_reduce(std::span<double>(sum), Reduce::sum);
  return std::isfinite(sum[0]);
}

std::vector<LogicalTensor> Replica::tensors_to_save() {
  std::vector<LogicalTensor> tensors;
  for (const Parameter& rows : frozen_) tensors.push_back(part_of(rows, rows.name, rows.value));
  for (const DataParallel::Owned& own : owned()) {
    tensors.push_back(part_of(own.rows, own.rows.name, own.rows.value));
    tensors.push_back(part_of(own.rows, first_moment(own.rows), own.moments.first));
    tensors.push_back(part_of(own.rows, second_moment(own.rows), own.moments.second));
  }
  return tensors;
}

}  // namespace lexring
