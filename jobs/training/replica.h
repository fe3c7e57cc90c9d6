/// A model in training on this rank's place in the mesh, and the one training step that `train`, `bench` and `verify`
/// take.
///
/// A step: targets are counted over all replicas, so that each backward is seeded with 1 / count; each micro-batch goes
/// forward and backward, and gradients are summed meanwhile (parallel/data); the loss is summed in f64; gradients are
/// clipped by their global norm; AdamW updates. Loss and norm are the same numbers on every rank, so all of them decide
/// alike whether there is an update.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "jobs/config/options.h"
#include "jobs/launch/model_state.h"
#include "jobs/training/own_gradients.h"
#include "models/transformer.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/context.h"
#include "parallel/data/data_parallel.h"
#include "parallel/data/replica_comparison.h"

namespace lexring {

struct ReplicaSettings {
  ModelConfig model;
  ModelRuntime runtime;  ///< but for `held`, which follows from `shard` and the mesh
  AdamWHyper optimizer;
  Shard shard = Shard::none;
  double clip = 0;  ///< largest global norm of the gradient; 0: off
};
/// What the keys of a run say.
ReplicaSettings replica_settings(const Options& options);

/// Whether a step was computed a second time, and what that showed (jobs/training/second_look.h).
enum class SecondLook { none, transient, persistent };
constexpr auto words(SecondLook) {
  return std::to_array<Word<SecondLook>>(
      {{SecondLook::none, "none"}, {SecondLook::transient, "transient"}, {SecondLook::persistent, "persistent"}});
}

struct StepResult {
  double loss = 0;           ///< nats per counted target, of all replicas; NaN where there is none
  double gradient_norm = 0;  ///< before clipping
  bool finite = true;        ///< loss (where there are targets) and gradient norm
  SecondLook second_look = SecondLook::none;
  double flops = 0;          ///< of all ranks; convention: Transformer::step_flops
  std::vector<double> sums;  ///< what the ranks had to tell
};

/// What tests do to one rank's numbers, to see who notices.
struct StepHooks {
  using Change = std::function<void(const std::vector<Parameter>&)>;
  Change gradients = {};  ///< of a section's parameters, final on this rank and not yet summed over the replicas
  Change values = {};     ///< of the model's parameters, after an update
};

class Replica {
 public:
  /// Values are uninitialised. `context` and `backend` must outlive it. Throws UsageError where the model cannot be
  /// built. Collective.
  Replica(const ReplicaSettings& settings, const Context& context, Backend& backend);

  /// Values as Transformer::initialise says.
  void initialise(std::uint64_t seed);
  /// Fills weights, compute copies and master values. An error on one rank is thrown on all of them. Collective.
  void load_weights(const TensorSource& source, Missing missing = Missing::nothing);
  /// Verifies a checkpoint; then weights, moments and the number of updates (steps that were not skipped), likewise.
  void load(const CheckpointReader& checkpoint);

  using Tell = std::function<std::vector<double>()>;
  /// One training step: compute, and update unless loss or gradient norm is not finite. Collective.
  StepResult step(const std::vector<ModelBatch>& micro_batches, double lr, const Tell& tell = {});
  /// Loss and gradients; neither values nor moments change, so that it may be called again. `micro_batches` are this
  /// replica's, the same on all ranks of its cp and tp, equally many on every replica. `tell`, if given, is asked once
  /// backward is done: its numbers, equally many on every rank, are summed over all ranks in the message that carries
  /// the loss. Collective.
  StepResult compute(const std::vector<ModelBatch>& micro_batches, const Tell& tell = {});
  /// What this rank alone added in the last compute: its loss, and its gradients before they were summed. Equal where
  /// the same was computed. Only where there are several ranks; waits for the device.
  struct OwnPart {
    double loss = 0;
    std::vector<std::byte> gradients;  ///< OwnGradients::sums
    bool finite = true;
  };
  OwnPart own_part() const;
  /// The update by the gradients of the last compute, whose norm was `gradient_norm`. Does not wait for it. Collective.
  void update(double lr, double gradient_norm);
  /// Whether ranks that should hold the same values do; with `moments` also those of an optimizer that is not sharded.
  /// Reads all of them once. Collective.
  std::optional<Drift> find_drift(bool moments);

  /// Whether every weight is finite, on all ranks. Collective.
  bool weights_are_finite();
  /// What this rank alone is to write to a checkpoint; no part twice over all ranks. Names: the parameters' own;
  /// "optimizer.first_moment.<name>", "optimizer.second_moment.<name>".
  std::vector<LogicalTensor> tensors_to_save();
  /// The rows of parameters behind these, with the gradients of the last step (summed, not clipped).
  std::vector<DataParallel::Owned> owned() { return data_.owned(); }
  Transformer& model() { return model_; }
  void set_hooks(StepHooks hooks) { hooks_ = std::move(hooks); }

 private:
  SectionReached reached(bool last);

  const Context* context_;
  Backend* backend_;
  double clip_;
  Transformer model_;
  std::vector<Parameter> frozen_;  // this rank's rows of what is not trained, for checkpoints
  DataParallel data_;
  OwnGradients own_gradients_;
  double own_loss_ = 0;
  StepHooks hooks_;
};

}  // namespace lexring
