/// What the trainer does about numbers that may be wrong: spikes, steps that are not finite, replicas that differ.
#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/console.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/launch/nodes.h"
#include "jobs/training/trainer.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/newest.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

constexpr std::int64_t most_not_finite_in_a_row = 10;

/// "rank 2 (node7) and rank 3 (node7)".
std::string names_of(const std::vector<int>& ranks, const std::vector<std::string>& nodes) {
  std::vector<std::string> names;
  for (const int rank : ranks)
    names.push_back(fmt::format("rank {} ({})", rank, nodes[static_cast<std::size_t>(rank)]));
  return fmt::format("{}", fmt::join(names, " and "));
}

std::vector<MachineError::Suspect> suspects_of(const Drift& drift, const std::vector<std::string>& nodes,
                                               const std::string& since) {
  std::vector<MachineError::Suspect> suspects;
  for (const int rank : drift.ranks) {
    const std::string& node = nodes[static_cast<std::size_t>(rank)];
    const bool named = std::any_of(suspects.begin(), suspects.end(), [&](const auto& one) { return one.node == node; });
    if (named) continue;
    suspects.push_back(
        {node, fmt::format("rank {} drifted in {} from the ranks that hold the same, {}{}", rank, drift.name, since,
                           drift.outvoted ? "" : "; it is this node or one it was compared with")});
  }
  return suspects;
}

}  // namespace

std::string Trainer::last_checkpoint() const {
  return complete_step_ < 0 ? "there is no checkpoint yet"
                            : fmt::format("the last checkpoint is of step {}", complete_step_);
}

std::optional<SpikeScore> Trainer::score(const StepResult& result) const {
  const auto& t = options_.train;
  if (t.spike == SpikeChoice::ignore || !result.finite) return std::nullopt;
  return spike_score(state_.spikes, t.spike_window, result.loss, result.gradient_norm);
}

bool Trainer::is_spike(const StepResult& result) const {
  const auto found = score(result);
  return found && found->highest() > options_.train.spike_score;
}

void Trainer::count_step(const StepMetrics& metrics, bool spike) {
  const auto& t = options_.train;
  state_.step += 1;
  state_.samples += t.batch;
  if (!metrics.skipped) {
    state_.skipped_in_a_row = state_.spikes.in_a_row = 0;
    if (t.spike != SpikeChoice::ignore) accept(state_.spikes, t.spike_window, metrics.loss, metrics.gradient_norm);
    return;
  }
  state_.skipped_steps += 1;
  state_.skipped_in_a_row += 1;
  if (spike) state_.spikes.in_a_row += 1;
}

void Trainer::act_on_spike(const StepMetrics& metrics) {
  const auto& t = options_.train;
  const auto found = spike_score(state_.spikes, t.spike_window, metrics.loss, metrics.gradient_norm);
  const std::string why =
      fmt::format("step {}: {}", metrics.step, describe(*found, t.spike_window, metrics.loss, metrics.gradient_norm));
  if (t.spike == SpikeChoice::rollback) return roll_back(why);
  if (t.spike == SpikeChoice::skip) {
    if (is_first()) say("{}\n", why);
    return;
  }
  settle(writer_.finish(), std::nullopt);
  throw NumbersError(
      fmt::format("{}, and train.spike = stop; {}. Starting again meets the same step: choose train.spike = skip or "
                  "rollback, a higher train.spike_score, or another optimizer.lr",
                  why, last_checkpoint()));
}

/// Weights, moments and step of the newest checkpoint that fell due. Data go on behind the spike, so that what was read
/// since the checkpoint is not read again, and its windows are as they were: from that checkpoint, any run comes here.
void Trainer::roll_back(const std::string& why) {
  settle(writer_.finish(), std::nullopt);
  Communicator& world = context_->world();
  const std::filesystem::path directory = options_.checkpoint.directory;
  const std::int64_t back_to = state_.spikes.back_to;
  auto found = back_to < 0 ? std::nullopt : find_checkpoint(world, directory / step_name(back_to));
  if (back_to >= 0 && !found) found = find_checkpoint(world, directory);
  std::optional<CheckpointReader> checkpoint;
  if (found) checkpoint.emplace(world, *found);
  if (const std::string damage = found ? checkpoint->damage(world) : ""; !damage.empty()) {
    if (is_first()) say("{}\n", damage);
    NewestWhole newest = open_newest_whole(world, directory);
    checkpoint.reset();
    if (newest.reader) checkpoint.emplace(std::move(*newest.reader));
  }
  if (!checkpoint) {
    if (is_first()) say("{}; there is no checkpoint to go back to, so the step is skipped\n", why);
    return;
  }
  if (state_.spikes.rollbacks >= most_rollbacks) {
    throw NumbersError(
        fmt::format("{}, and the run went back to the checkpoint of step {} {} times already; lower "
                    "optimizer.lr, resume from an earlier checkpoint, or choose a higher "
                    "train.spike_score",
                    why, back_to, state_.spikes.rollbacks));
  }
  if (local_) local_->begin_turn();
  agree(world, [&] {
    if (is_first()) go_on_from(checkpoint->path());
  });
  replica_.load(*checkpoint);
  TrainingState state = checkpoint->state();
  state.samples = state_.samples;
  state.tokenizer = state_.tokenizer;
  state.spikes.back_to = state.step;
  state.spikes.rollbacks = state_.spikes.rollbacks + 1;
  state_ = std::move(state);
  saved_step_ = complete_step_ = compared_step_ = state_.step;
  save_due_ = local_due_ = false;
  if (is_first()) {
    say("{}; the run goes back to the checkpoint of step {}, and on with the data behind this step ({} of {} times)\n",
        why, state_.step, state_.spikes.rollbacks, most_rollbacks);
  }
}

void Trainer::end_if_hopeless() {
  const std::int64_t spikes = state_.spikes.in_a_row, not_finite = state_.skipped_in_a_row - spikes;
  const std::int64_t most_spikes = most_spikes_in_a_row(options_.train.spike_window);
  if (not_finite < most_not_finite_in_a_row && spikes < most_spikes) return;
  settle(writer_.finish(), std::nullopt);  // the last good checkpoint is whole before this run ends
  if (not_finite >= most_not_finite_in_a_row) {
    throw NumbersError(
        fmt::format("{} steps in a row had a loss or gradient that is not finite (the last is step {}), "
                    "each computed twice; {}. Lower optimizer.lr, lengthen optimizer.warmup, or resume "
                    "from an earlier checkpoint",
                    not_finite, state_.step, last_checkpoint()));
  }
  throw NumbersError(
      fmt::format("{} steps in a row were spikes (the last is step {}), so that they are the rule by now; "
                  "{}. Choose train.spike = rollback, a higher train.spike_score, or a lower "
                  "optimizer.lr",
                  spikes, state_.step, last_checkpoint()));
}

/// Whoever drifts spoils the gradients of all: what was saved after the last comparison could be wrong on every rank.
/// Each save is preceded by one, so that the newest checkpoint is from before.
void Trainer::require_equal_replicas(bool moments) {
  const std::optional<Drift> drift = replica_.find_drift(moments);
  if (!drift) {
    compared_step_ = state_.step;
    return;
  }
  settle(writer_.finish(), std::nullopt);
  if (local_) local_->clear();  // they are not compared before they are saved
  const std::vector<std::string> nodes = gather_nodes(context_->world());
  const std::string since = fmt::format("between steps {} and {}", compared_step_, state_.step);
  const std::string who =
      drift->outvoted ? fmt::format("{} holds another {} than {}", names_of(drift->ranks, nodes), drift->name,
                                    names_of(drift->others, nodes))
                      : fmt::format("{} hold different values of {}, and there is no majority to say whose are wrong",
                                    names_of(drift->ranks, nodes), drift->name);
  throw MachineError(
      fmt::format("after step {}: {}. They were the same after step {}, so a machine's memory or arithmetic failed "
                  "since; {}{}. Start again without that node",
                  state_.step, who, compared_step_, last_checkpoint(),
                  complete_step_ < 0 ? "" : ", from before that, and can be trusted"),
      suspects_of(*drift, nodes, since));
}

}  // namespace lexring
