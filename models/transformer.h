/// The LEX transformer (and its relatives), written once for every mesh, device and length.
///
/// Pre-norm layers over the residual stream x [N, D]: x += attention(norm(x)); x += ffn(norm(x)); a final norm; output
/// projection and loss in chunks of tokens. Activations are [N, D]: this rank's tokens, sequence after sequence; there
/// is no batch dimension.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "framework/autograd/tape.h"
#include "framework/base/words.h"
#include "framework/nn/parameter.h"
#include "framework/nn/parameter_store.h"
#include "models/batch.h"
#include "models/layer_range.h"
#include "models/recompute.h"
#include "models/sequence/pass.h"
#include "parallel/context.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

enum class Precision { fp64, fp32, bf16 };
/// How the model computes; what it is stands in ModelConfig.
struct ModelRuntime {
  Precision precision = Precision::fp32;  ///< working dtype; master dtype is f32 (f64 with fp64)
  Dtype residual = Dtype::f32;            ///< dtype of the residual stream: f32 or bf16 (f64 with fp64)
  Recompute recompute = Recompute::none;
  /// How sequences are cut over cp; automatic: zigzag where queries see everything before them, else contiguous.
  PartitionKind partition = PartitionKind::automatic;
  /// How keys reach queries over the ring of cp; automatic: what sends least (parallel/sequence/schedule.h).
  Exchange exchange = Exchange::automatic;
  Held held = Held::all;  ///< less only where a sharded optimizer has the rest (parallel/data)
  /// Parts of names of parameters that are not trained (models/parameter_plan.h: freeze).
  std::vector<std::string> frozen = {};
};

struct LossResult {
  Tensor own;  ///< [n] nats, master dtype, of this rank's rows; 0 where not counted
  Tensor nll;  ///< [N] the same of the whole batch in evaluation, of this rank's rows in training

  /// Over the counted targets of this rank of cp, in f64: its sum over context.replicas() is that of all. Waits for the
  /// device.
  double nll_sum() const;
};

/// What a range of layers hands to the next: this rank's rows of the stream x + branch; in backward, gradients of both.
struct StreamRows {
  Tensor x;       ///< [n, D] residual dtype
  Tensor branch;  ///< [n, D] working dtype; absent behind an embedding without layers
};

/// A batch that has gone forward through a range of layers, and has to come back.
class RangeStep {
 public:
  LossResult loss;    ///< with the head
  StreamRows output;  ///< without it

  /// Adds gradients to every trained parameter of the range; once. `gradients`: of `output`, taken over; none with the
  /// head. Returns the gradients of what arrived, none with the embedding. `reached` as in Transformer::train_step.
  StreamRows backward(StreamRows gradients, const std::function<void(std::size_t)>& reached = {});

 private:
  friend class Transformer;
  std::unique_ptr<Tape> tape_;
  struct Slots {
    GradientSlot x, branch;
  } arrived_, left_;
};

class Transformer {
 public:
  /// Throws UsageError when the configuration cannot be built. `context` and `backend` must outlive the model.
  Transformer(const ModelConfig& config, const ModelRuntime& runtime, const Context& context, Backend& backend);
  /// A range of its layers; what is said below of the model holds for the range. Without embedding or head it can go
  /// forward and backward alone.
  Transformer(const ModelConfig& config, const ModelRuntime& runtime, const Context& context, Backend& backend,
              const LayerRange& range);
  ~Transformer();

  const ModelConfig& config() const;
  Backend& backend() const;
  /// All parameters in a fixed order, names and shapes as in the plan (models/parameter_plan.h).
  std::vector<Parameter>& parameters();
  /// Those that have a gradient, likewise.
  const std::vector<Parameter>& trained() const;
  /// Whether it is part of a low-rank addition, which weights from elsewhere may do without.
  bool of_adapter(const Parameter& parameter) const;
  /// Of the whole model, not of this rank's part: all, and those that are trained.
  std::int64_t parameter_count() const;
  std::int64_t trained_count() const;

  /// What backward makes again from the next step on.
  void set_recompute(Recompute what);
  /// Values as functions of (seed, parameter name, global element index): matrices normal(0, 0.02), output-side
  /// matrices (attention.output, ffn.down) scaled by 1 / sqrt(2 layers); norms 1 and 0; biases 0. Refreshes compute
  /// copies.
  void initialise(std::uint64_t seed);
  /// The same values for part of a parameter that somebody else holds.
  void initialise(const Parameter& part, std::uint64_t seed) const;
  /// Rewrites compute copies from master values (after loading).
  void refresh_compute();
  /// Every gradient in one flat buffer [elements], master dtype, on the device: one all-reduce, one fill, one norm.
  /// Padding between parameters is 0 and stays 0. Shares storage with Parameter::gradient.
  Tensor gradients();

  /// Parameters, by index in trained(), whose gradients backward finishes together, in that order
  /// (models/parameter_plan.h); a section may be empty. With Held::all each lies before its predecessor in gradients().
  std::vector<std::vector<std::size_t>> gradient_sections() const;

  /// Loss of a batch; adds gradients of scale * nll_sum() to every trained parameter (the whole backward runs here).
  /// `reached`, if not empty, is called with the number of each section of gradient_sections() as soon as nothing is
  /// added to it any more.
  LossResult train_step(const ModelBatch& batch, double scale, const std::function<void(std::size_t)>& reached = {});
  /// The forward pass of a training step, of any range: from the batch's tokens, or from the rows that `arrived` from
  /// the range before. The batch must live until the step is back.
  RangeStep forward(const ModelBatch& batch, double scale, const StreamRows& arrived = {});
  /// Loss without gradients. With a cache, the rows continue the cached sequences (streamed evaluation); ranks of cp
  /// share each chunk, and each caches all keys.
  LossResult evaluate(const ModelBatch& batch, ModelCache* cache = nullptr, const AttentionProbe& probe = nullptr);
  /// Logits [N, V] in master dtype, for generation and verification: of every row, or of the last row of each sequence.
  enum class Rows { all, last };
  Tensor logits(const ModelBatch& batch, Rows rows, ModelCache* cache = nullptr);

  /// A cache that holds what each layer's pattern can still see: everything, the halo, or the sinks and the window.
  /// Throws UsageError where text cannot come chunk by chunk (check_streaming).
  std::unique_ptr<ModelCache> make_cache() const;
  /// Pattern of the loaded model may be exchanged for evaluation (same parameters): causal, blockwise, ...
  void set_attention(const AttentionConfig& attention);
  /// Its positions likewise, where they need the same parameters: rotary angles rescaled for another length. A cache
  /// must be made anew.
  void set_position(const PositionConfig& position);

  /// Floating-point operations of one training step per batch, counted by what the mask leaves visible: matrices 6 x
  /// parameters in matrices (output projection included; 4 x what is not trained) per token, attention 12 x E x H
  /// per visible pair and layer; not what backward makes again (Recompute), for that trains nothing.
  /// Forward only: a third. An equal share for each rank of cp: the sum over context.replicas() is that of all.
  double step_flops(const ModelBatch& batch) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
