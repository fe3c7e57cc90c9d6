#include <optional>

#include "framework/ops/landmark_attention.h"
#include "models/query_factors.h"
#include "models/sequence/dealt_rows.h"
#include "models/sequence/pass.h"

namespace lexring {

namespace {

class CachedPass final : public SequencePass {
 public:
  CachedPass(const PassModel& model, const ModelBatch& batch, ModelCache& cache)
      : batch_(&batch),
        backend_(&model.backend),
        group_(&model.context.axis(Axis::cp)),
        kinds_(&model.kinds),
        cache_(&cache),
        borders_(even_borders(batch.tokens.rows(), group_->size())) {
    require(batch.tokens.sequences.size() == 1, "a cache continues one sequence, but the batch has {}",
            batch.tokens.sequences.size());
    if (group_->size() > 1) deal(batch);
    for (std::size_t k = 0; k < model.kinds.size(); ++k) {
      take_chunk(model, model.kinds[k], cache.kinds[k]);
      take_landmarks(model.kinds[k].config.attention, cache.landmarks[k], cache.kinds[k]);
    }
  }

  const ModelBatch& rows() const override { return dealt_ ? dealt_->own() : *batch_; }

  Var forget_sums(Tape&, std::int64_t layer, const Var& logits) const override {
    const std::size_t k = kinds_->of_layer(layer).front();  // heads of streamed layers are of one kind
    return Var(cache_->kinds[k].append_gates(place_of(layer), *backend_,
                                             dealt_ ? dealt_->gather(logits.value()) : logits.value()));
  }

  Var attend(Tape&, std::int64_t layer, std::size_t k, const BiasTerms& bias, const AttentionProbe& probe,
             const Var& qkv) const override {
    const AttentionForm& form = (*kinds_)[k].form;
    const QueryKeyValue own = split_columns(form, qkv.value());
    if (probe) {
      require_usage(!dealt_,
                    "a streamed chunk's queries are spread over mesh.cp = {} ranks; measure attention resolution "
                    "unstreamed, or with mesh.cp = 1",
                    group_->size());
      probe(layer, form, bias.value(queries_[k].front()), queries_[k].front().queries, own.query, own.key);
    }
    KeyValueCache& cache = cache_->kinds[k];
    const std::int64_t place = place_of(layer);
    if (dealt_) {
      const Tensor all = gather_keys(form, qkv.value());
      cache.append(place, *backend_, {all, 0, form.key_width()}, {all, form.key_width(), form.key_width()});
    } else {
      cache.append(place, *backend_, own.key, own.value);
    }
    const CachedKeys keys{cache.rows(), cache.keys(place), cache.values(place), terms(bias.sums.value())};
    if (!landmarks_[k]) return Var(attention_to_cache(*backend_, queries_[k], bias, own.query, keys));
    const ScoreBias added = bias.value({});
    return Var(landmark_forward(*backend_, {form, added, *landmarks_[k], keys.rows, own.query, keys.keys, keys.values})
                   .output);
  }

  Tensor gather(const Tensor& rows) const override { return dealt_ ? dealt_->gather(rows) : rows; }

 private:
  std::int64_t place_of(std::int64_t layer) const {
    return static_cast<std::int64_t>(cache_->place[static_cast<std::size_t>(layer)]);
  }

  /// Of sums of all rows of a cache, in which the chunk's are the last.
  RowTerms terms(const Tensor& sums) const {
    if (!sums.defined()) return {};
    const std::int64_t chunk = sums.rows() - borders_.back();
    const auto rank = static_cast<std::size_t>(group_->rank());
    return {sums.slice(chunk + borders_[rank], borders_[rank + 1] - borders_[rank]), sums};
  }

  void deal(const ModelBatch& batch) {
    const Partition partition(batch.tokens, PartitionKind::contiguous, group_->size());
    std::vector<std::vector<Chunk>> chunks;
    for (int r = 0; r < group_->size(); ++r) chunks.push_back(partition.place_chunks(r));
    dealt_.emplace(*backend_, *group_, batch, chunks);
  }

  /// Moves the cache of a kind on to the chunk; keeps the rows that ask on this rank.
  void take_chunk(const PassModel& model, AttentionKind& kind, KeyValueCache& cache) {
    const TokenTable& tokens = batch_->tokens;
    const TokenTable* const past = &cache.rows()->tokens;
    if (kind.config.attention.cache_positions) require_dense(*past, tokens);
    const std::vector<DocumentPlace> places = document_places(*batch_, kind.pattern->sinks(), past);
    Visibility visible = kind.pattern->visibility(tokens, places);
    std::vector<PartPlan> plans = kind.parts(kind.form, tokens, visible);
    Runtime& runtime = model.backend.runtime();
    const std::int64_t length = length_of(tokens);
    const SharedRows chunk = make_rows(tokens, kind.rotary(runtime, tokens, length, model.master), std::move(visible));
    if (!places.empty()) cache.begin_chunk(*chunk, kind.pattern->keep(tokens.position.front(), places.front()));
    const std::vector<std::int64_t>* const own = dealt_ ? &dealt_->places() : nullptr;
    row_factors_.push_back(make_row_factors(runtime, kind.config.attention,
                                            {tokens, chunk->visible, cache.rows()->tokens}, model.master, own));
    AttentionParts& parts = queries_.emplace_back();
    for (PartPlan& plan : plans) parts.push_back(kind.part(std::move(plan), runtime, chunk, length, model.master, own));
  }

  /// Adds the chunk's landmarks to those of the kind so far.
  void take_landmarks(const AttentionConfig& config, LandmarkPositions& so_far, const KeyValueCache& cache) {
    landmarks_.emplace_back();
    if (!config.landmarks()) return;
    for (const auto& [sequence, positions] : landmarks_of(*batch_, config.landmark_token))
      so_far[sequence].insert(so_far[sequence].end(), positions.begin(), positions.end());
    std::vector<std::int64_t> starts = starts_of(document_places(*batch_, 0, &cache.rows()->tokens));
    if (dealt_) starts = take_rows(starts, dealt_->places());
    const AttentionRows& queries = *queries_.back().front().queries;
    landmarks_.back() =
        make_landmark_rows(queries.tokens, queries.rotary, starts, std::make_shared<const LandmarkPositions>(so_far));
  }

  /// Places in a cache are counted in tokens, which only dense positions tell.
  static void require_dense(const TokenTable& past, const TokenTable& tokens) {
    std::int64_t next = past.position.empty() ? 0 : past.position.back() + 1;
    for (const std::int64_t position : tokens.position) {
      require(position == next, "attention.cache_positions counts tokens, but a chunk goes on at position {} after {}",
              position, next - 1);
      ++next;
    }
  }

  /// [rows of the chunk, 2 K E] of every rank: keys, values.
  Tensor gather_keys(const AttentionForm& form, const Tensor& qkv) const {
    const std::int64_t width = 2 * form.key_width();
    const Tensor all(backend_->runtime(), {borders_.back(), width}, qkv.dtype());
    backend_->copy(key_value_columns(form, qkv),
                   all.slice(borders_[static_cast<std::size_t>(group_->rank())], qkv.rows()));
    std::vector<std::int64_t> elements = borders_;
    for (std::int64_t& border : elements) border *= width;
    group_->start_all_gather({all.raw(), all.bytes()}, all.dtype(), elements).wait();
    return all;
  }

  const ModelBatch* batch_;
  Backend* backend_;
  Communicator* group_;
  const AttentionKinds* kinds_;
  ModelCache* cache_;
  std::vector<std::int64_t> borders_;                   ///< [ranks + 1] of the chunk's rows
  std::optional<DealtRows> dealt_;                      ///< none with cp = 1
  std::vector<AttentionParts> queries_;                 ///< by kind
  std::vector<std::optional<LandmarkRows>> landmarks_;  ///< by kind; none: it has no landmarks
};

}  // namespace

std::shared_ptr<const SequencePass> make_cached_pass(const PassModel& model, const ModelBatch& batch,
                                                     ModelCache& cache) {
  return std::make_shared<CachedPass>(model, batch, cache);
}

}  // namespace lexring
