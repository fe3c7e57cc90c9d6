#include <algorithm>
#include <numeric>

#include "framework/ops/head_norm.h"
#include "framework/ops/scale_queries.h"
#include "models/head_pieces.h"
#include "models/transformer_impl.h"
#include "parallel/tensor/vocabulary.h"

namespace lexring {

namespace {

std::vector<double> to_host_f64(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

void check_targets(const ModelBatch& rows) {
  require(rows.targets.size() == rows.ids.size(), "a loss needs targets, but the batch has none");
}

}  // namespace

double LossResult::nll_sum() const {
  const std::vector<double> rows = to_host_f64(own);
  return std::accumulate(rows.begin(), rows.end(), 0.0);
}

std::shared_ptr<const SequencePass> Transformer::Impl::pass(const ModelBatch& batch, ModelCache* cache) {
  check(batch, config);
  const PartitionKind partition = how.partition == PartitionKind::automatic ? default_partition(config) : how.partition;
  return make_pass({backend, context, partition, how.exchange, kinds, master}, batch, cache);
}

Var Transformer::Impl::embed(Tape& tape, const ModelBatch& batch, const RowShards& shards) {
  Runtime& runtime = backend.runtime();
  const Lookup tokens{Tensor::from(runtime, {shards.rows()}, slice_ids(batch.ids, config.vocab, tp)),
                      weights.embedding};
  PositionTerms positions;
  if (const std::string name = embedded_position->added_parameter(); !name.empty()) {
    const auto first = batch.tokens.position.begin() + shards.first();
    positions.lookup = {
        Tensor::from(runtime, {shards.count()}, std::vector<std::int32_t>(first, first + shards.count())),
        weights.positions.at(name)};
  }
  std::vector<double> own;
  for (std::int64_t n = shards.first(); n < shards.first() + shards.count(); ++n)
    own.push_back(batch.tokens.coordinate_of(static_cast<std::size_t>(n)));
  positions.constant = added_positions(own);
  return vocabulary_embedding(tape, tokens, positions, residual, shards);
}

Tensor Transformer::Impl::added_positions(const std::vector<double>& coordinates) {
  if (added.defined() && coordinates == added_at) return added;
  const std::vector<double> values = embedded_position->added(coordinates, config.width);
  if (values.empty()) return {};
  const Shape shape = {static_cast<std::int64_t>(coordinates.size()), config.width};
  added_at = coordinates;
  added = master == Dtype::f64
              ? Tensor::from(backend.runtime(), shape, values)
              : Tensor::from(backend.runtime(), shape, std::vector<float>(values.begin(), values.end()));
  return added;
}

std::vector<BiasTerms> Transformer::Impl::biases(Tape& tape, const TokenTable& batch) const {
  const std::int64_t longest = std::max<std::int64_t>(length_of(batch) - 1, 0);
  std::vector<BiasTerms> terms;
  for (std::size_t k = 0; k < kinds.size(); ++k)
    terms.push_back(kinds[k].bias(tape, weights.positions, longest, master));
  return terms;
}

Attend Transformer::Impl::attend_of(std::int64_t layer, const std::vector<BiasTerms>& bias,
                                    const std::shared_ptr<const SequencePass>& sequence,
                                    const AttentionProbe& probe) const {
  using AttendKind = std::function<Var(Tape&, const Var& qkv, const Var& sums)>;
  const LayerWeights& own_weights = weights.layers[static_cast<std::size_t>(layer - range.first)];
  std::vector<AttendKind> by_kind;
  std::vector<HeadShare> pieces;
  for (const std::size_t k : kinds.of_layer(layer)) {
    const AttentionKind& kind = kinds[k];
    const RowFactors& rows = sequence->row_factors(k);
    QueryFactors factors{rows.scores, own_weights.ssmax};
    for (Tensor* const of_heads : {&factors.by_head.value, &factors.by_head.gradient})
      if (of_heads->defined()) *of_heads = of_heads->slice(kind.piece.first, kind.piece.heads);
    pieces.push_back(kind.piece);
    by_kind.push_back([sequence, layer, k, probe, own = bias[k], &kind, factors, by_row = rows.output](
                          Tape& tape, const Var& qkv, const Var& sums) {
      BiasTerms terms = own;
      terms.sums = kind.has_all_heads() ? sums : slice_sums(tape, sums, kind.piece.first, kind.piece.heads);
      const Var scaled = factors.by_row.defined() ? scale_queries(tape, kind.form, factors, qkv) : qkv;
      const Var attended = sequence->attend(tape, layer, k, terms, probe, scaled);
      return by_row.defined() ? scale_rows(tape, by_row, attended) : attended;
    });
  }
  return [by_kind, pieces, sequence, layer, norms = own_weights.head_norms,
          form = kinds[kinds.of_layer(layer).front()].whole_form()](Tape& tape, Var qkv, const Var& gates) {
    if (norms.query.value.defined()) qkv = head_norms(tape, qkv, norms, form);
    const Var sums = gates.defined() ? sequence->forget_sums(tape, layer, gates) : Var();
    if (by_kind.size() == 1) return by_kind.front()(tape, qkv, sums);
    std::vector<Var> attended;
    for (std::size_t i = 0; i < pieces.size(); ++i)
      attended.push_back(by_kind[i](tape, take_heads(tape, form, pieces[i], qkv), sums));
    return join_heads(tape, form, pieces, attended);
  };
}

Stream Transformer::Impl::layers(Tape& tape, const ModelBatch& batch,
                                 const std::shared_ptr<const SequencePass>& sequence, const RowShards& shards,
                                 const AttentionProbe& probe, Stream in) {
  tape.mark(static_cast<std::size_t>(range.count()) + 1);  // sections of gradients, last to first
  const std::vector<BiasTerms> bias = biases(tape, batch.tokens);
  if (range.embedding) in = {embed(tape, sequence->rows(), shards), Var()};
  for (std::int64_t n = range.first; n < range.last; ++n) {
    tape.mark(static_cast<std::size_t>(range.last - n));
    const Attend attend = attend_of(n, bias, sequence, probe);
    const LayerPass own{&config, &weights.layers[static_cast<std::size_t>(n - range.first)], working, attend, shards};
    in = layer(tape, own, how.recompute, std::exchange(in, {}));
  }
  tape.mark(0);
  return in;
}

LossResult Transformer::Impl::loss(Tape& tape, const ModelBatch& rows, const RowShards& shards, Stream left,
                                   double scale) const {
  const Var h = final_norm(tape, weights.norm, working, std::exchange(left, {}));
  const Tensor targets =
      Tensor::from(backend.runtime(), {shards.rows()}, slice_targets(rows.targets, config.vocab, tp));
  LossResult result;
  result.own = result.nll =
      vocabulary_cross_entropy(tape, h, weights.output, targets, config.vocab, scale, shards, config.logit_softcap);
  return result;
}

StreamRows RangeStep::backward(StreamRows gradients, const std::function<void(std::size_t)>& reached) {
  const TraceRange trace("backward");
  Backend& backend = tape_->backend();
  if (gradients.x.defined()) left_.x.accumulate(backend, std::move(gradients.x));
  if (gradients.branch.defined()) left_.branch.accumulate(backend, std::move(gradients.branch));
  tape_->backward(reached);
  return {arrived_.x.take(), arrived_.branch.take()};
}

RangeStep Transformer::forward(const ModelBatch& batch, double scale, const StreamRows& arrived) {
  const TraceRange trace("forward");
  RangeStep step;
  step.tape_ = std::make_unique<Tape>(impl_->backend, Recording::on);
  Tape& tape = *step.tape_;
  const auto sequence = impl_->pass(batch, nullptr);
  const ModelBatch& rows = sequence->rows();
  const RowShards shards(impl_->tp, rows.tokens.rows());
  const LayerRange& range = impl_->range;
  require(range.embedding != arrived.x.defined(), "layers [{}, {}) start from {}", range.first, range.last,
          range.embedding ? "the embedding, but a stream arrived" : "the stream of those before, but none arrived");
  if (range.head) check_targets(rows);
  const MemoryPurpose purpose("embedding, loss");
  Stream in{Var(arrived.x), Var(arrived.branch)};
  step.arrived_ = {in.x.slot(), in.branch.slot()};
  Stream left = impl_->layers(tape, batch, sequence, shards, nullptr, std::exchange(in, {}));
  if (range.head) {
    step.loss = impl_->loss(tape, rows, shards, std::exchange(left, {}), scale);
  } else {
    step.left_ = {left.x.slot(), left.branch.slot()};
    step.output = {left.x.value(), left.branch.value()};
  }
  return step;
}

LossResult Transformer::train_step(const ModelBatch& batch, double scale,
                                   const std::function<void(std::size_t)>& reached) {
  impl_->require_all_layers("a training step");
  RangeStep step = forward(batch, scale);
  step.backward({}, reached);
  return step.loss;
}

LossResult Transformer::evaluate(const ModelBatch& batch, ModelCache* cache, const AttentionProbe& probe) {
  impl_->require_all_layers("evaluation");
  Tape tape(impl_->backend, Recording::off);
  const auto sequence = impl_->pass(batch, cache);
  const ModelBatch& rows = sequence->rows();
  check_targets(rows);
  const RowShards shards(impl_->tp, rows.tokens.rows());
  const MemoryPurpose purpose("embedding, loss");
  LossResult result =
      impl_->loss(tape, rows, shards, impl_->layers(tape, batch, sequence, shards, probe, Stream()), 0.0);
  result.nll = sequence->gather(result.own);
  return result;
}

Tensor Transformer::logits(const ModelBatch& batch, Rows rows, ModelCache* cache) {
  impl_->require_all_layers("a table of logits");
  Tape tape(impl_->backend, Recording::off);
  const auto sequence = impl_->pass(batch, cache);
  const RowShards shards(impl_->tp, sequence->rows().tokens.rows());
  const Var own = final_norm(tape, impl_->weights.norm, impl_->working,
                             impl_->layers(tape, batch, sequence, shards, nullptr, Stream()));
  Tensor h = sequence->gather(start_gather_rows(own.value(), shards).wait());
  Runtime& runtime = impl_->backend.runtime();
  if (rows == Rows::last) {
    const auto& sequences = batch.tokens.sequences;
    const Tensor last(runtime, {static_cast<std::int64_t>(sequences.size()), h.dim(1)}, h.dtype());
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const Tensor row = h.slice(sequences[i].first + sequences[i].count - 1, 1);
      runtime.copy(last.slice(static_cast<std::int64_t>(i), 1).raw(), row.raw(), row.bytes());
    }
    h = last;
  }
  return vocabulary_logits(impl_->backend, h, impl_->weights.output, impl_->config.vocab, impl_->tp,
                           impl_->config.logit_softcap);
}

}  // namespace lexring
