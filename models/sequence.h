/// A batch on the ranks of cp: which rows this one holds, and attention that sees the rows of all (parallel/sequence).
///
/// cp = 1: all rows, and plain attention. cp > 1: a part of every sequence; heads exchanged inside context.ulysses(),
/// keys brought over context.ring(). With a cache the ranks share the chunk's rows evenly, and every rank gathers the
/// chunk's keys and values. A probe sees the rows of all ranks, on every rank (not with a cache and cp > 1:
/// UsageError).
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "framework/ops/attention.h"
#include "models/block.h"
#include "models/patterns.h"
#include "models/positions/rotary.h"
#include "models/transformer.h"

namespace lexring {

/// How a batch is cut where nobody asked for a cut: zigzag where a row may see everything before it (each place has as
/// much work as the others), else contiguous (neighbours need only each other's ends).
PartitionKind default_partition(const Pattern& pattern);

/// What attention needs to know of a model; all of it outlives a pass.
struct AttentionModel {
  Backend& backend;
  const Context& context;
  const ModelRuntime& how;
  const AttentionSpec& spec;  ///< heads of this rank of tp
  const Pattern& pattern;
  const PositionEncoding& position;
  RotaryTables& rotary_tables;
  Dtype master;
};

/// Rows of a batch that each rank of cp holds.
using RowsOfRanks = std::vector<std::vector<std::int64_t>>;

/// One pass of one batch.
class SequencePass {
 public:
  /// Moves `cache`, if any, on to the batch. The batch must outlive the pass.
  SequencePass(const AttentionModel& model, const ModelBatch& batch, KeyValueCache* cache);

  /// This rank's rows. Documents are left out: attention knows them.
  const ModelBatch& rows() const { return rows_of_ == nullptr ? *batch_ : rows_; }
  /// Attention of one layer; may outlive the pass.
  Attend attend(std::int64_t layer, const AttentionProbe& probe) const;
  /// [N, ...] in the order of the batch, from everybody's rows. Collective over cp. For evaluation: nothing is
  /// recorded.
  Tensor gather(const Tensor& rows) const;
  /// How rows are cut and keys travel, and why; empty with cp = 1.
  const std::string& description() const { return description_; }

 private:
  using Layer = std::function<Var(Tape&, std::int64_t layer, const AttentionProbe&, const Var& qkv)>;
  void plain(AttentionTables tables);
  void cached(const AttentionModel& model, AttentionTables chunk, KeyValueCache& cache);
  void sharded(const AttentionModel& model, const Visibility& visible);
  /// Cuts ids, targets and positions.
  void take(const std::vector<Chunk>& chunks);

  const ModelBatch* batch_;
  ModelBatch rows_;
  Backend* backend_;
  Communicator* group_;
  std::shared_ptr<const RowsOfRanks> rows_of_;  ///< none with cp = 1
  Layer layer_;
  std::string description_;
};

}  // namespace lexring
