#include "framework/ops/landmark_attention.h"
#include "models/query_factors.h"
#include "models/sequence/forget_sums.h"
#include "models/sequence/pass.h"

namespace lexring {

namespace {

class LocalPass final : public SequencePass {
 public:
  LocalPass(const PassModel& model, const ModelBatch& batch) : batch_(&batch) {
    for (std::size_t k = 0; k < model.kinds.size(); ++k) {
      AttentionKind& kind = model.kinds[k];
      Runtime& runtime = model.backend.runtime();
      ModelBatch counted;
      const ModelBatch& seen = kind.seen_as(batch, counted);
      rows_.push_back(kind.rows(runtime, seen.tokens, visibility(seen, *kind.pattern, nullptr), model.master));
      landmarks_.push_back(kind.config.attention.landmarks() ? landmark_rows(kind, rows_.back()) : nullptr);
      row_factors_.push_back(make_row_factors(runtime, kind.config.attention,
                                              {seen.tokens, rows_.back().keys->visible, seen.tokens}, model.master));
    }
  }

  const ModelBatch& rows() const override { return *batch_; }

  Var forget_sums(Tape& tape, std::int64_t, const Var& logits) const override {
    return lexring::forget_sums(tape, batch_->tokens.sequences, nullptr, logits);
  }

  Var attend(Tape& tape, std::int64_t layer, std::size_t kind, const BiasTerms& bias, const AttentionProbe& probe,
             const Var& qkv) const override {
    const KindRows& rows = rows_[kind];
    if (probe) {
      const AttentionPart& part = rows.parts.front();
      const QueryKeyValue in = split_columns(part.form, qkv.value());
      probe(layer, part.form, bias.value(part), rows.keys, in.query, in.key);
    }
    if (landmarks_[kind] != nullptr)
      return landmark_attention(tape, rows.parts.front().form, landmarks_[kind], rows.keys, bias, qkv);
    return attention(tape, rows.parts, rows.keys, bias, qkv);
  }

  Tensor gather(const Tensor& rows) const override { return rows; }

 private:
  std::shared_ptr<const LandmarkRows> landmark_rows(const AttentionKind& kind, const KindRows& rows) const {
    const auto positions =
        std::make_shared<const LandmarkPositions>(landmarks_of(*batch_, kind.config.attention.landmark_token));
    return std::make_shared<const LandmarkRows>(make_landmark_rows(
        rows.keys->tokens, rows.keys->rotary, starts_of(document_places(*batch_, 0, nullptr)), positions));
  }

  const ModelBatch* batch_;
  std::vector<KindRows> rows_;                                  ///< by kind
  std::vector<std::shared_ptr<const LandmarkRows>> landmarks_;  ///< by kind; null: it has none
};

}  // namespace

std::shared_ptr<const SequencePass> make_local_pass(const PassModel& model, const ModelBatch& batch) {
  return std::make_shared<LocalPass>(model, batch);
}

}  // namespace lexring
