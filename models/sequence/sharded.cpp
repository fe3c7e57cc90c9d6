#include <optional>

#include "models/query_factors.h"
#include "models/sequence/forget_sums.h"
#include "models/sequence/pass.h"
#include "parallel/sequence/attention.h"
#include "parallel/sequence/head_exchange.h"
#include "parallel/sequence/landmarks.h"

namespace lexring {

namespace {

class ShardedPass final : public SequencePass {
 public:
  ShardedPass(const PassModel& model, const ModelBatch& batch, std::shared_ptr<const Partition> partition)
      : partition_(std::move(partition)),
        ring_(&model.context.ring()),
        group_(&model.context.axis(Axis::cp)),
        model_kinds_(&model.kinds),
        dealt_(std::make_shared<const DealtRows>(model.backend, *group_, batch, chunks_of(*partition_))) {
    for (std::size_t k = 0; k < model.kinds.size(); ++k) kinds_.push_back(make_kind(model, batch, model.kinds[k]));
  }

  const ModelBatch& rows() const override { return dealt_->own(); }

  Var forget_sums(Tape& tape, std::int64_t, const Var& logits) const override {
    return lexring::forget_sums(tape, partition_->whole().sequences, dealt_, logits);
  }

  Var attend(Tape& tape, std::int64_t layer, std::size_t kind, const BiasTerms& bias, const AttentionProbe& probe,
             const Var& qkv) const override {
    if (probe) show(layer, kind, bias, probe, qkv.value());
    const Kind& own = kinds_[kind];
    if (own.heads.alone()) return over_ring(tape, own, bias, qkv);
    const BiasTerms of_heads = slice_heads(tape, bias, own.heads.first_head(), own.heads.form().heads);
    return own.heads.to_rows(tape, over_ring(tape, own, of_heads, own.heads.to_heads(tape, qkv)));
  }

  Tensor gather(const Tensor& rows) const override { return dealt_->gather(rows); }

 private:
  struct Kind {
    HeadExchange heads;
    std::shared_ptr<const SequenceTables> tables;
    RotaryMaker rotary;
    std::shared_ptr<const LandmarkTables> landmarks;  ///< instead of `tables`; null: it has none
  };

  Var over_ring(Tape& tape, const Kind& kind, const BiasTerms& bias, const Var& qkv) const {
    return kind.landmarks != nullptr ? sequence_landmark_attention(tape, *ring_, kind.landmarks, bias, qkv)
                                     : sequence_attention(tape, *ring_, kind.tables, bias, qkv);
  }

  static std::vector<std::vector<Chunk>> chunks_of(const Partition& partition) {
    std::vector<std::vector<Chunk>> chunks;
    for (int r = 0; r < partition.ranks(); ++r) chunks.push_back(partition.rank_chunks(r));
    return chunks;
  }

  Kind make_kind(const PassModel& model, const ModelBatch& batch, AttentionKind& kind) {
    Kind own{HeadExchange(model.context.ulysses(), kind.form, partition_->ulysses_borders(ring_->rank())),
             nullptr,
             {},
             nullptr};
    ModelBatch counted;
    const ModelBatch& seen = kind.seen_as(batch, counted);
    Visibility visible = visibility(seen, *kind.pattern, nullptr);
    if (std::optional<RotaryAngles> angles = kind.position->rotary(kind.length(seen.tokens, visible))) {
      own.rotary = [angles = std::move(*angles), runtime = &model.backend.runtime(), dtype = model.master](
                       const TokenTable& tokens) { return make_rotary_table(*runtime, angles, tokens, dtype); };
    }
    row_factors_.push_back(make_row_factors(model.backend.runtime(), kind.config.attention,
                                            {seen.tokens, visible, seen.tokens}, model.master, &dealt_->places()));
    if (kind.config.attention.landmarks()) {
      own.landmarks = landmark_tables(batch, kind, own);
      return own;
    }
    const SequenceTables* const last = kind.last_tables.get();
    if (last == nullptr || last->partition->whole() != seen.tokens || last->visible != visible) {
      std::shared_ptr<const Partition> partition = partition_;
      if (seen.tokens != partition_->whole())
        partition = std::make_shared<const Partition>(seen.tokens, partition_->kind(), partition_->ring(),
                                                      partition_->ulysses());
      kind.last_tables = std::make_shared<const SequenceTables>(
          make_sequence_tables(partition, ring_->rank(), visible, kind.parts(own.heads.form(), seen.tokens, visible),
                               model.exchange, own.rotary));
    }
    own.tables = kind.last_tables;
    return own;
  }

  std::shared_ptr<const LandmarkTables> landmark_tables(const ModelBatch& batch, const AttentionKind& kind,
                                                        const Kind& own) const {
    const std::vector<Chunk>& chunks = partition_->place_chunks(ring_->rank());
    const TokenTable &whole = partition_->whole(), tokens = tokens_of(whole, chunks);
    const auto rotary = [&](const TokenTable& table) { return own.rotary ? own.rotary(table) : RotaryTable(); };
    const auto positions =
        std::make_shared<const LandmarkPositions>(landmarks_of(batch, kind.config.attention.landmark_token));
    return std::make_shared<const LandmarkTables>(LandmarkTables{
        partition_, own.heads.form(),
        make_landmark_rows(tokens, rotary(tokens),
                           take_rows(starts_of(document_places(batch, 0, nullptr)), row_indices(chunks)), positions),
        make_rows(whole, rotary(whole))});
  }

  /// Every rank sees the projections of all rows.
  void show(std::int64_t layer, std::size_t kind, const BiasTerms& bias, const AttentionProbe& probe,
            const Tensor& qkv) const {
    const RotaryMaker& rotary = kinds_[kind].rotary;
    const AttentionForm& form = (*model_kinds_)[kind].form;
    const TokenTable& whole = partition_->whole();
    const QueryKeyValue all = split_columns(form, dealt_->gather(qkv));
    probe(layer, form, bias.value({}), make_rows(whole, rotary ? rotary(whole) : RotaryTable()), all.query, all.key);
  }

  std::shared_ptr<const Partition> partition_;
  Communicator *ring_, *group_;
  const AttentionKinds* model_kinds_;
  std::shared_ptr<const DealtRows> dealt_;
  std::vector<Kind> kinds_;
};

}  // namespace

std::shared_ptr<const SequencePass> make_sharded_pass(const PassModel& model, const ModelBatch& batch) {
  return std::make_shared<ShardedPass>(
      model, batch,
      std::make_shared<const Partition>(batch.tokens, model.partition, model.context.ring().size(),
                                        model.context.ulysses().size()));
}

}  // namespace lexring
