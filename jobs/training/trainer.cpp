#include "jobs/training/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <tuple>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "framework/base/process_memory.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/launch/model_state.h"
#include "jobs/launch/stored_tokenizer.h"
#include "jobs/training/recompute_choice.h"
#include "jobs/training/run_start.h"
#include "jobs/training/second_look.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

constexpr std::int64_t measured_steps = 20;  // train.minutes: the choice falls after this step
constexpr std::size_t unmeasured_steps = 2;  // the first steps allocate and compile kernels

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

Trainer::Trainer(const Options& options, const Context& context, Backend& backend, const Dataset& train,
                 const Dataset* valid)
    : options_(options),
      context_(&context),
      backend_(&backend),
      directory_(options.checkpoint.directory),
      sampler_(train, options.train.length, static_cast<std::uint64_t>(options.train.seed), options.data.use()),
      replica_(replica_settings(options), context, backend),
      writer_(options.checkpoint.directory, context.world(), options.checkpoint.keep),
      stragglers_(context) {
  if (valid != nullptr) validation_.emplace(options_, context, *valid);
  state_.dataset_hash = train.content_hash();
  state_.tokenizer = stored_tokenizer(train);
  replica_.initialise(static_cast<std::uint64_t>(options.train.seed));
  settle_recompute(options_, replica_.model(), context);
}

void Trainer::resume(const CheckpointReader& checkpoint) {
  const TrainingState& stored = checkpoint.state();
  const Options before = require_same_run(options_, checkpoint, state_.dataset_hash);
  options_.init = before.init;
  if (options_.train.minutes > 0 && before.train.minutes == 0) {  // the choice has been made and stays
    options_.train.minutes = 0;
    options_.train.steps = before.train.steps;
  }
  replica_.load(checkpoint);
  StoredTokenizer tokenizer = std::move(state_.tokenizer);  // an earlier version stored none
  state_ = stored;
  state_.tokenizer = std::move(tokenizer);
  saved_step_ = complete_step_ = compared_step_ = stored.step;
  // One that fell due in the skipped steps before the stop still waits for a good one.
  const std::int64_t every = options_.checkpoint.every, good = stored.step - stored.skipped_in_a_row;
  save_due_ = every > 0 && stored.step / every > good / every;
}

void Trainer::begin_with(const CheckpointReader& checkpoint) {
  const std::string source = checkpoint.path().string() + " (stored configuration)";
  require_fitting_weights(options_, parse_ini_text(checkpoint.state().configuration, source), checkpoint);
  checkpoint.verify(context_->world());
  replica_.load_weights(checkpoint, Missing::adapters);
}

StepMetrics Trainer::train_step() {
  const auto start = std::chrono::steady_clock::now();
  const Communicator& dp = context_->axis(Axis::dp);
  const auto& t = options_.train;
  const auto ranges =
      micro_batches(static_cast<std::uint64_t>(state_.samples), t.batch, dp.rank(), dp.size(), t.micro_batch);
  StepMetrics metrics;
  metrics.step = state_.step + 1;
  metrics.lr = learning_rate(lr_schedule(options_), state_.step);
  const auto batches = read_batches(sampler_, ranges, sinks_of(options_.model), options_.sampling, masking_of(options_),
                                    landmark_of(options_.model));
  const auto tell = [&]() -> std::vector<double> {
    const bool done = writer_.in_flight() && writer_.shard_done();
    const bool local_done = local_ && local_->in_flight() && local_->stage_done();
    return {done ? 1.0 : 0.0, stop_.received() ? 1.0 : 0.0, local_done ? 1.0 : 0.0};
  };
  const StepResult result =
      compute_with_second_look(replica_, *context_, metrics.step, batches, tell,
                               [&](const StepResult& step) { return !step.finite || is_spike(step); });
  metrics.loss = result.loss;
  metrics.gradient_norm = result.gradient_norm;
  if (result.second_look != SecondLook::none) metrics.computed_twice = name_of(result.second_look);
  const bool spike = is_spike(result);
  if (const auto found = score(result)) metrics.spike_score = found->highest();
  metrics.skipped = !result.finite || spike;
  if (!metrics.skipped) replica_.update(metrics.lr, metrics.gradient_norm);
  count_step(metrics, spike);
  metrics.epochs = static_cast<double>(state_.samples) / static_cast<double>(sampler_.windows());
  if (writer_.in_flight() && result.sums[0] == context_->world().size()) settle(writer_.publish(), next_save());
  if (local_ && local_->in_flight() && result.sums[2] == context_->world().size()) {
    if (const auto line = local_->advance(); line && is_first()) say("{}\n", *line);
  }
  stop_agreed_ = stop_agreed_ || result.sums[1] > 0;
  metrics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (auto slow = stragglers_.after_step(state_.step)) metrics.incidents.push_back(std::move(*slow));
  metrics.tokens_per_second = static_cast<double>(t.batch * t.length) / metrics.seconds;
  metrics.flops = result.flops / metrics.seconds / 1e9;
  const Runtime& runtime = backend_->runtime();
  metrics.memory = runtime.device().type == DeviceType::cpu ? peak_memory_mib()
                                                            : static_cast<double>(runtime.memory().peak) / (1 << 20);
  if (metrics.skipped && options_.train.compare_every > 0) require_equal_replicas(false);  // a weight may be the reason
  if (spike) act_on_spike(metrics);
  return metrics;
}

bool Trainer::stop_agreed() {
  std::array<double, 1> wishes = {stop_.received() ? 1.0 : 0.0};
  context_->world().all_reduce(std::span<double>(wishes), Reduce::sum);
  return stop_agreed_ = stop_agreed_ || wishes[0] > 0;
}

void Trainer::choose_steps(const StepMetrics& metrics) {
  measured_.push_back(metrics.seconds);
  const bool enough = state_.step >= measured_steps && measured_.size() > unmeasured_steps + 1;
  if (!enough) return;
  const double seconds = median({measured_.begin() + static_cast<std::ptrdiff_t>(unmeasured_steps), measured_.end()});
  const double left = options_.train.minutes * 60.0 / seconds;
  std::array<std::int64_t, 1> steps = {std::max<std::int64_t>(std::llround(left), state_.step + 1)};
  context_->world().broadcast(std::as_writable_bytes(std::span(steps)), 0);
  options_.train.steps = steps[0];
  options_.train.minutes = 0;
  if (is_first()) {
    say("a step takes {:.3f} s: training for {}\n", seconds, counted(steps[0], "step"));
    directory_.write_config(to_ini(options_));
  }
}

std::int64_t Trainer::next_save() const {
  const std::int64_t every = options_.checkpoint.every, steps = options_.train.steps;
  const std::int64_t next = every > 0 ? (state_.step / every + 1) * every : steps;
  return options_.train.minutes > 0 ? next : std::min(next, std::max(steps, state_.step));
}

void Trainer::settle(const std::optional<std::string>& problem, std::optional<std::int64_t> again) {
  if (!problem) {
    complete_step_ = saved_step_;
    return;
  }
  const std::string next = again ? fmt::format("; going on; will be tried again at step {}", *again) : "";
  if (is_first()) say("save of step {} failed: {}{}\n", saved_step_, *problem, next);
  saved_step_ = complete_step_;
  std::tie(state_.spikes.back_to, state_.spikes.rollbacks) = before_save_;
}

void Trainer::save(Due due) {
  if (saved_step_ == state_.step) return;
  if (options_.train.compare_every > 0) require_equal_replicas(true);
  // Weights that are not finite make all steps to come be skipped, and a checkpoint of them would displace a good one.
  const bool finite = replica_.weights_are_finite();
  if (writer_.in_flight()) settle(writer_.finish(), state_.step);  // it is whole, should this run end here
  if (!finite) {
    throw NumbersError(
        fmt::format("weights are not finite after step {}, so they are not saved; {}. Lower optimizer.lr, or lengthen "
                    "optimizer.warmup, and {}",
                    state_.step, last_checkpoint(), complete_step_ < 0 ? "start again" : "resume from there"));
  }
  state_.configuration = to_ini(options_);
  before_save_ = {state_.spikes.back_to, state_.spikes.rollbacks};
  if (due == Due::yes) {
    state_.spikes.back_to = state_.step;
    state_.spikes.rollbacks = 0;
  }
  writer_.save(state_, replica_.tensors_to_save());
  saved_step_ = state_.step;
  save_due_ = false;
}

void Trainer::keep_local(std::unique_ptr<LocalTier> tier) {
  local_ = std::move(tier);
  const std::string text = local_ ? local_->describe(replica_.tensors_to_save()) + "\n" : "";
  if (is_first()) say("{}", text);
}

void Trainer::save_locally() {
  local_due_ = false;
  if (saved_step_ == state_.step || !replica_.weights_are_finite()) return;  // the next shared save says why not
  state_.configuration = to_ini(options_);
  local_->save(state_, replica_.tensors_to_save());
}

void Trainer::save_last() {
  save(save_due_ && state_.skipped_in_a_row == 0 ? Due::yes : Due::no);
  const auto problem = writer_.finish();
  require(!problem, "the last save, of step {}, failed: {}; {}; with more space the same command goes on from there",
          state_.step, problem.value_or(""),
          complete_step_ < 0 ? "there is no checkpoint"
                             : fmt::format("the newest checkpoint is of step {}", complete_step_));
  if (local_) local_->clear();
}

RunEnd Trainer::run(const MetricSinks& sinks) {
  const auto& o = options_;
  if (is_first()) directory_.write_config(to_ini(options_));
  for (const auto& sink : sinks) sink->begin(state_.step, o.train.minutes > 0 ? 0 : o.train.steps);
  while ((o.train.minutes > 0 || state_.step < o.train.steps) && !stop_agreed_) {
    StepMetrics metrics = train_step();
    const bool choosing = o.train.minutes > 0;
    if (metrics.step > state_.step) {
      for (const auto& sink : sinks) sink->begin(state_.step, choosing ? 0 : o.train.steps);
      continue;
    }
    if (choosing) choose_steps(metrics);
    const bool last = !choosing && state_.step == o.train.steps;
    const bool due = o.train.valid_every > 0 && state_.step % o.train.valid_every == 0;
    if (validation_ && (last || due)) {
      const auto start = std::chrono::steady_clock::now();
      metrics.valid_loss = validation_->loss(replica_.model(), [&] { return stop_agreed(); });
      metrics.valid_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    for (const auto& sink : sinks) {
      if (choosing && o.train.minutes == 0) sink->begin(state_.step, o.train.steps);
      sink->write(metrics);
    }
    end_if_hopeless();
    save_due_ = save_due_ || (o.checkpoint.every > 0 && state_.step % o.checkpoint.every == 0);
    if (save_due_ && !last && !metrics.skipped) save(Due::yes);  // after skipped steps it waits for a good one
    local_due_ = local_ && (local_due_ || state_.step % o.checkpoint.local_every == 0);
    if (local_due_ && !last && !metrics.skipped && !local_->in_flight()) save_locally();
    const bool compare = o.train.compare_every > 0 && state_.step % o.train.compare_every == 0;
    if (compare && compared_step_ != state_.step) require_equal_replicas(false);
  }
  save_last();
  for (const auto& sink : sinks) sink->finish();
  if (o.train.minutes == 0 && state_.step >= o.train.steps) return RunEnd::finished;
  if (is_first()) {
    say("stopped by a signal after step {} of {}; {} goes on from there\n", state_.step, o.train.steps,
        o.resume == "auto" ? "the same command" : "the same command with --resume auto");
  }
  return RunEnd::stopped;
}

}  // namespace lexring
