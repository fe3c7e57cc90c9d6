/// One pass of one batch on the ranks of cp: which rows this one holds, and attention that sees the rows of all.
///
///   local.cpp    cp = 1: all rows, and plain attention
///   sharded.cpp  cp > 1: a part of every sequence, one partition for all layers; heads exchanged inside
///                context.ulysses(), keys brought over context.ring() (parallel/sequence)
///   cached.cpp   rows that continue a cache; the ranks of cp share them evenly, and each caches all keys
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "framework/attention/cache.h"
#include "models/attention_kind.h"
#include "models/batch.h"
#include "models/query_factors.h"
#include "parallel/context.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

/// How a batch is cut where nobody asked for a cut: zigzag where some layer's rows may see everything before them, and
/// nothing after (each place has as much work as the others), else contiguous (neighbours need only each other's ends,
/// or all rows see all).
PartitionKind default_partition(const ModelConfig& config);

/// Keys and values of past rows, of every layer: each kind of layers keeps what its pattern can still see.
struct ModelCache {
  std::vector<KeyValueCache> kinds;
  std::vector<LandmarkPositions> landmarks;  ///< by kind: those that came so far
  std::vector<std::size_t> place;            ///< by layer: which of its kind's layers it is
};

/// Called once per layer and kind in a forward pass with the raw projections of all rows (on every rank of cp), e.g. to
/// measure attention resolution.
using AttentionProbe = std::function<void(std::int64_t layer, const AttentionForm&, const ScoreBias&, const SharedRows&,
                                          Columns q, Columns k)>;

/// What a pass needs to know of a model; all of it outlives a pass.
struct PassModel {
  Backend& backend;
  const Context& context;
  PartitionKind partition;
  Exchange exchange;
  AttentionKinds& kinds;
  Dtype master;
};

class SequencePass {
 public:
  SequencePass() = default;
  SequencePass(const SequencePass&) = delete;
  SequencePass& operator=(const SequencePass&) = delete;
  virtual ~SequencePass() = default;

  /// This rank's rows. Documents are left out: attention knows them.
  virtual const ModelBatch& rows() const = 0;
  /// Of this rank's rows, by kind of layer.
  const RowFactors& row_factors(std::size_t kind) const { return row_factors_[kind]; }
  /// Of the logits [n, H] of a layer's forget gate, of this rank's rows: BiasTerms::sums (forget_sums.h), of all rows
  /// that attention sees. Collective over cp.
  virtual Var forget_sums(Tape& tape, std::int64_t layer, const Var& logits) const = 0;
  /// [N, H E] = attention of one layer, by one of its kinds: qkv [N, (H + 2K) E] and `bias` are of the kind's heads.
  /// Collective over cp. The pass must outlive the tape.
  virtual Var attend(Tape& tape, std::int64_t layer, std::size_t kind, const BiasTerms& bias,
                     const AttentionProbe& probe, const Var& qkv) const = 0;
  /// [N, ...] in the order of the batch, from everybody's rows. Collective over cp. For evaluation: nothing is
  /// recorded.
  virtual Tensor gather(const Tensor& rows) const = 0;

 protected:
  std::vector<RowFactors> row_factors_;  ///< by kind
};

/// Moves `cache`, if any, on to the batch. The batch must outlive the pass.
std::shared_ptr<const SequencePass> make_pass(const PassModel& model, const ModelBatch& batch, ModelCache* cache);

/// The three, by name.
std::shared_ptr<const SequencePass> make_local_pass(const PassModel& model, const ModelBatch& batch);
std::shared_ptr<const SequencePass> make_sharded_pass(const PassModel& model, const ModelBatch& batch);
std::shared_ptr<const SequencePass> make_cached_pass(const PassModel& model, const ModelBatch& batch,
                                                     ModelCache& cache);

}  // namespace lexring
