/// Data parallelism of one model: gradients summed over replicas while backward runs, the global norm, the optimizer,
/// sharded or not.
///
/// A step: begin_step; the model's forward and backward per micro-batch, which calls reached() if given;
/// finish_gradients; step, unless it is to be skipped. The same results on every rank with any Shard.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "framework/base/words.h"
#include "framework/nn/parameter_store.h"
#include "framework/optim/adamw.h"
#include "parallel/context.h"
#include "parallel/data/buckets.h"
#include "parallel/data/gradient_reduction.h"
#include "parallel/tensor/replicated.h"

namespace lexring {

/// What each of P replicas keeps only its own rows of (ZeRO, Rajbhandari et al. 2020), with the bytes that a parameter
/// takes on a rank.
enum class Shard {
  none,       ///< nothing. f32: 4 value + 4 gradient + 8 moments; bf16: 2 compute copy besides
  state,      ///< moments (ZeRO-1), and master values that nothing reads. f32: 4 + 4 + 8 / P; bf16: 2 + 4 + 12 / P
  gradients,  ///< gradients too (ZeRO-2); the whole exists for one section at a time. f32: 4 + 12 / P; bf16: 2 + 16 / P
};
constexpr auto words(Shard) {
  return std::to_array<Word<Shard>>({{Shard::none, "none"}, {Shard::state, "state"}, {Shard::gradients, "gradients"}});
}
/// What a model trained with `shard` over so many replicas has to hold itself: ModelRuntime::held.
Held held_by_model(Shard shard, int replicas);

/// Called by a model's backward with each section whose gradients are final, in order.
using SectionReached = std::function<void(std::size_t section)>;

class DataParallel {
 public:
  /// `parameters` and the flat buffer `gradients` that theirs lie in are those of a model made with held_by_model,
  /// `sections` the order in which backward finishes them.
  /// Everything given must outlive it. The same arguments, but for what the ranks of tp hold, on every rank.
  DataParallel(const Context& context, Backend& backend, const std::vector<Parameter>& parameters,
               const Tensor& gradients, const Sections& sections, const AdamWHyper& hyper, Shard shard,
               std::size_t message_bytes = bucket_bytes);

  /// Rows whose master values only the optimizer holds: whoever makes or loads values fills them too. Values are
  /// uninitialised.
  std::vector<Parameter> masters() const;

  /// Sets gradients to 0.
  void begin_step();
  enum class MicroBatch { more_to_come, last };
  /// What to give to the backward of a micro-batch; empty: it need not call. Replicas have equally many micro-batches.
  SectionReached reached(MicroBatch which);
  /// Waits for the sums. Returns the global norm of the gradients, no replica counted twice: one number on all ranks.
  /// Collective over world.
  double finish_gradients();
  /// Updates this rank's rows and hands out what others read. Collective over replicas.
  void step(double lr, double gradient_scale);

  /// What this rank alone is to write to a checkpoint: rows of parameters and their moments.
  struct Owned {
    Parameter rows;
    Moments moments;
  };
  std::vector<Owned> owned();
  /// What it keeps moments of: rows of parameters, or all of them.
  AdamWOptimizer& optimizer() { return optimizer_; }
  /// Whether that is rows: not where there is one replica.
  bool sharded() const { return shard_ != Shard::none; }

 private:
  Parameter own(std::size_t share) const;

  const Context* context_;
  Backend* backend_;
  const std::vector<Parameter>* parameters_;
  Tensor gradients_;
  Shard shard_;                   // none where there is one replica
  std::vector<RowShare> shares_;  // this rank's
  std::vector<Bucket> buckets_;
  AdamWOptimizer optimizer_;
  ReplicatedGradients replicated_;
  std::unique_ptr<GradientReduction> reduction_;  // none where there is one replica
};

}  // namespace lexring
