/// Attention of the layers of one kind: layers whose configuration is the same share all that is made from it. A kind
/// is of all heads of this rank, or, where heads have different patterns, of a piece of them: a layer then has several.
#pragma once

#include <memory>
#include <vector>

#include "framework/ops/attention.h"
#include "models/batch.h"
#include "models/layer_range.h"
#include "models/patterns.h"
#include "models/positions/position.h"
#include "models/positions/rotary.h"
#include "parallel/comm/communicator.h"
#include "parallel/heads.h"
#include "parallel/sequence/attention.h"

namespace lexring {

/// Rows of a whole batch, as keys and as queries.
struct KindRows {
  SharedRows keys;  ///< with all that they see as queries
  AttentionParts parts;
};

struct AttentionKind {
  LayerConfig config;
  std::unique_ptr<PositionEncoding> position;
  std::unique_ptr<Pattern> pattern;
  HeadShare own_heads;        ///< this rank's, of the model's
  HeadShare piece;            ///< the kind's, of this rank's
  AttentionForm form;         ///< of the piece
  std::vector<float> slopes;  ///< likewise; empty: none

  bool has_all_heads() const { return piece.heads == own_heads.heads; }
  /// Of all of this rank's heads.
  AttentionForm whole_form() const { return form_of(form, {0, own_heads.heads, 0, own_heads.kv_heads}); }

  // What was made of the last batch: all steps of a training without documents have the same rows, and kernels know
  // rows that they have met.
  RotaryTables rotary_tables;
  KindRows last_rows;
  std::shared_ptr<const SequenceTables> last_tables;

  /// The batch as this kind counts it: with attention.cache_positions by tokens, made in `counted`.
  const ModelBatch& seen_as(const ModelBatch& batch, ModelBatch& counted) const;
  /// The length that angles may follow: of the longest sequence, or of what a cache holds of the longest document.
  std::int64_t length(const TokenTable& tokens, const Visibility& visible) const;
  /// Rotation tables of rows of sequences of this length; undefined without rotation. Kept while positions repeat.
  RotaryTable rotary(Runtime& runtime, const TokenTable& tokens, std::int64_t length, Dtype master);
  /// The rows of a whole batch; those of the batch before, where they are the same.
  KindRows rows(Runtime& runtime, const TokenTable& tokens, Visibility visible, Dtype master);
  /// The parts of attention of `of`, this kind's form or that of some of its heads.
  std::vector<PartPlan> parts(const AttentionForm& of, const TokenTable& tokens, const Visibility& visible) const;
  /// A part of rows `keys`: all of them, or with `places` those.
  AttentionPart part(PartPlan plan, Runtime& runtime, const SharedRows& keys, std::int64_t length, Dtype master,
                     const std::vector<std::int64_t>* places = nullptr) const;
  /// The score bias, for every distance up to `longest`.
  BiasTerms bias(Tape& tape, const PositionParameters& parameters, std::int64_t longest, Dtype master) const;
};

/// The kinds of a range of layers.
class AttentionKinds {
 public:
  /// Heads are cut over `tp`. Throws UsageError when some layer's position method or pattern cannot be made.
  AttentionKinds(const ModelConfig& config, const LayerRange& range, const Communicator& tp);

  std::size_t size() const { return kinds_.size(); }
  AttentionKind& operator[](std::size_t kind) { return kinds_[kind]; }
  const AttentionKind& operator[](std::size_t kind) const { return kinds_[kind]; }
  /// One, or one for each piece of its heads.
  const std::vector<std::size_t>& of_layer(std::int64_t layer) const {
    return of_layer_[static_cast<std::size_t>(layer - first_)];
  }
  std::int64_t layers(std::size_t kind) const;  ///< how many layers are of it

 private:
  std::int64_t first_;  ///< layer
  std::vector<AttentionKind> kinds_;
  std::vector<std::vector<std::size_t>> of_layer_;
};

}  // namespace lexring
