/// The training loop: any mesh, deterministic, resumable. The step itself is the replica's (jobs/training/replica.h).
///
/// Step n (from 1) consumes the next train.batch global samples; rank r of dp computes a contiguous slice, micro-batch
/// by micro-batch, together with the ranks of its cp and tp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "datasets/dataset.h"
#include "jobs/config/options.h"
#include "jobs/launch/stop_signal.h"
#include "jobs/training/metrics.h"
#include "jobs/training/replica.h"
#include "jobs/training/run_directory.h"
#include "jobs/training/spike.h"
#include "jobs/training/stragglers.h"
#include "jobs/training/training_batches.h"
#include "jobs/training/validation.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/local_tier.h"
#include "parallel/context.h"

namespace lexring {

/// How a run ended: the same on every rank.
enum class RunEnd {
  finished,  ///< with the last step
  stopped    ///< by a signal, with a checkpoint; steps are left
};

class Trainer {
 public:
  /// `options` is resolved (the vocabulary included), but for train.recompute, which is chosen here where it is auto.
  /// `valid` may be null. Everything given must outlive the trainer. Collective.
  Trainer(const Options& options, const Context& context, Backend& backend, const Dataset& train, const Dataset* valid);

  /// Goes on from a checkpoint. Throws when its model, data set, seed or sequence length are others. Collective.
  void resume(const CheckpointReader& checkpoint);
  /// Begins a new run with the weights of a checkpoint. Throws when they are of another model. Collective.
  void begin_with(const CheckpointReader& checkpoint);
  /// Local checkpoints from here on, every checkpoint.local_every steps; null: none. Collective.
  void keep_local(std::unique_ptr<LocalTier> tier);
  /// Trains to the last step, or until a stop signal; saves at the end either way. `sinks` get every step's numbers;
  /// empty but on rank 0. Throws NumbersError where numbers are wrong for good, MachineError where ranks that should
  /// hold the same do not; the last good checkpoint is whole then. Collective.
  RunEnd run(const MetricSinks& sinks = {});

  std::int64_t step() const { return state_.step; }
  const Options& options() const { return options_; }
  Transformer& model() { return replica_.model(); }
  Replica& replica() { return replica_; }

  /// One optimizer step; what run() repeats. Where a spike takes the run back to a checkpoint, step() is less than that
  /// of the metrics afterwards. Collective.
  StepMetrics train_step();

 private:
  bool stop_agreed();
  void choose_steps(const StepMetrics& metrics);
  enum class Due { yes, no };
  /// `due`: by its step, not because the run ends.
  void save(Due due);

  // trainer_doubts.cpp: numbers that may be wrong
  std::optional<SpikeScore> score(const StepResult& result) const;
  bool is_spike(const StepResult& result) const;
  void count_step(const StepMetrics& metrics, bool spike);
  void act_on_spike(const StepMetrics& metrics);
  void roll_back(const std::string& why);
  void end_if_hopeless();
  void require_equal_replicas(bool moments);
  /// "the last checkpoint is of step 100; ..."
  std::string last_checkpoint() const;
  void save_locally();
  /// The end of a save: says it where it failed, and at which step it is tried again.
  void settle(const std::optional<std::string>& problem, std::optional<std::int64_t> again);
  std::int64_t next_save() const;
  void save_last();
  bool is_first() const { return context_->world().rank() == 0; }

  Options options_;
  const Context* context_;
  Backend* backend_;
  RunDirectory directory_;
  Sampler sampler_;
  std::optional<Validation> validation_;
  Replica replica_;
  CheckpointWriter writer_;
  StragglerWatch stragglers_;
  std::unique_ptr<LocalTier> local_;  ///< may be null
  StopSignal stop_;
  TrainingState state_;
  std::int64_t saved_step_ = -1;                                 ///< of the last save, which may be in flight
  std::int64_t complete_step_ = -1;                              ///< of the newest checkpoint
  std::pair<std::int64_t, std::int64_t> before_save_ = {-1, 0};  ///< where a spike took the run back to, and how often
  std::int64_t compared_step_ = 0;                               ///< all ranks that should hold the same did after it
  bool save_due_ = false;
  bool local_due_ = false;
  bool stop_agreed_ = false;
  std::vector<double> measured_;  ///< seconds per step, while train.minutes waits for a choice
};

}  // namespace lexring
