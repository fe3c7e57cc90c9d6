#include "models/transformer.h"

#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <string_view>

#include "framework/nn/init.h"
#include "models/batch.h"
#include "models/block.h"
#include "models/sequence.h"
#include "parallel/tensor/heads.h"
#include "parallel/tensor/replicated.h"
#include "parallel/tensor/vocabulary.h"

namespace lexring {

namespace {

Dtype working_dtype(Precision precision) {
  return precision == Precision::fp64 ? Dtype::f64 : precision == Precision::bf16 ? Dtype::bf16 : Dtype::f32;
}

void check(const ModelRuntime& runtime, const Backend& backend) {
  const bool reference = backend.name() == "reference";
  require_usage(reference || runtime.precision != Precision::fp64,
                "precision fp64 is computed by the reference device only; choose --device reference");
  require_usage(!reference || runtime.precision != Precision::bf16,
                "the reference device computes in fp32 and fp64; choose another precision or device");
  require_usage(!reference || runtime.residual != Dtype::bf16,
                "the reference device has no bf16 residual stream; choose train.residual = f32");
}

bool ends_with(std::string_view name, std::string_view end) {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

std::vector<double> to_host_f64(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

}  // namespace

struct Transformer::Impl {
  ModelConfig config;
  ModelRuntime how;
  const Context& context;
  Communicator& tp;
  Backend& backend;
  Dtype working, master, residual;
  std::unique_ptr<PositionEncoding> position;
  std::unique_ptr<Pattern> pattern;
  AttentionSpec spec;
  ParameterStore store;
  ModelWeights weights;
  std::optional<ReplicatedGradients> replicated;
  RotaryTables rotary_tables;
  std::vector<std::int64_t> added_at;
  Tensor added;

  Impl(const ModelConfig& model, const ModelRuntime& runtime, const Context& mesh, Backend& device)
      : config(model),
        how(runtime),
        context(mesh),
        tp(mesh.axis(Axis::tp)),
        backend(device),
        working(working_dtype(runtime.precision)),
        master(runtime.precision == Precision::fp64 ? Dtype::f64 : Dtype::f32),
        residual(runtime.precision == Precision::fp64 ? Dtype::f64 : runtime.residual),
        position(make_position(model)),
        pattern(make_pattern(model.attention)),
        spec(specified(config, *position)) {
    weights = make_weights(config, tp, backend, master, working, how.held, store);
    replicated.emplace(tp, store.parameters());
  }

  /// What kernels know of this rank's heads.
  AttentionSpec specified(const ModelConfig& model, const PositionEncoding& encoding) const {
    AttentionSpec own;
    own.heads = model.heads;
    own.kv_heads = model.kv_heads;
    own.head_width = model.width / model.heads;
    own.scale = 1.0 / std::sqrt(static_cast<double>(own.head_width));
    encoding.specify(own);
    own = own_heads(std::move(own), tp);
    check_supported(own);
    return own;
  }

  Var embed(Tape& tape, const ModelBatch& batch, const RowShards& shards) {
    Runtime& runtime = backend.runtime();
    const Lookup tokens{Tensor::from(runtime, {shards.rows()}, slice_ids(batch.ids, config.vocab, tp)),
                        weights.embedding};
    const auto first = batch.tokens.position.begin() + shards.first();
    const std::vector<std::int64_t> own(first, first + shards.count());
    PositionTerms positions;
    if (position->learned_table()) {
      positions.lookup = {Tensor::from(runtime, {shards.count()}, std::vector<std::int32_t>(own.begin(), own.end())),
                          weights.learned};
    }
    positions.constant = added_positions(own);
    return vocabulary_embedding(tape, tokens, positions, residual, shards);
  }

  /// The constant of the position method, kept while positions repeat (all steps of a training have the same);
  /// undefined: none.
  Tensor added_positions(const std::vector<std::int64_t>& positions) {
    if (added.defined() && positions == added_at) return added;
    const std::vector<double> values = position->added(positions, config.width);
    if (values.empty()) return {};
    const Shape shape = {static_cast<std::int64_t>(positions.size()), config.width};
    added_at = positions;
    added = master == Dtype::f64
                ? Tensor::from(backend.runtime(), shape, values)
                : Tensor::from(backend.runtime(), shape, std::vector<float>(values.begin(), values.end()));
    return added;
  }

  SequencePass pass(const ModelBatch& batch, KeyValueCache* cache) {
    check(batch, config);
    return {{backend, context, how, spec, *pattern, *position, rotary_tables, master}, batch, cache};
  }

  Stream layer(Tape& tape, std::int64_t n, const Attend& with, const RowShards& shards, Stream in) {
    const LayerWeights& parts = weights.layers[static_cast<std::size_t>(n)];
    const Recompute again = tape.recording() ? how.recompute : Recompute::none;
    if (again == Recompute::none) return block(tape, parts, working, with, shards, std::move(in));
    const auto body = again == Recompute::block ? block : attention_half;
    const std::vector<Var> out = recompute(
        tape, {in.x, in.delta}, [this, body, &parts, with, shards](Tape& inner, const std::vector<Var>& vars) {
          Stream next = body(inner, parts, working, with, shards, {vars[0], vars[1]});
          return std::vector<Var>{next.x, next.delta};
        });
    if (again == Recompute::block) return {out[0], out[1]};
    return feed_forward_half(tape, parts, working, shards, {out[0], out[1]});
  }

  /// The forward pass up to the input of the output projection, this rank's rows of [N, D], where N are those of its
  /// place on cp.
  Var hidden(Tape& tape, const SequencePass& sequence, const RowShards& shards, const AttentionProbe& probe) {
    const auto layers = static_cast<std::size_t>(config.layers);
    tape.mark(layers + 1);  // sections of gradients, last to first
    Stream stream{embed(tape, sequence.rows(), shards), Var()};
    for (std::int64_t n = 0; n < config.layers; ++n) {
      tape.mark(layers - static_cast<std::size_t>(n));
      stream = layer(tape, n, sequence.attend(n, probe), shards, std::exchange(stream, {}));
    }
    tape.mark(0);
    return final_norm(tape, weights.norm, working, stream);
  }

  LossResult loss(Tape& tape, const SequencePass& sequence, double scale, const AttentionProbe& probe) {
    const ModelBatch& rows = sequence.rows();
    require(rows.targets.size() == rows.ids.size(), "a loss needs targets, but the batch has none");
    const RowShards shards(tp, rows.tokens.rows());
    const MemoryPurpose purpose("embedding, loss");
    const Var h = hidden(tape, sequence, shards, probe);
    LossResult result;
    const Tensor targets =
        Tensor::from(backend.runtime(), {shards.rows()}, slice_targets(rows.targets, config.vocab, tp));
    result.own = result.nll = vocabulary_cross_entropy(tape, h, weights.output, targets, config.vocab, scale, shards);
    return result;
  }
};

double LossResult::nll_sum() const {
  const std::vector<double> rows = to_host_f64(own);
  return std::accumulate(rows.begin(), rows.end(), 0.0);
}

Transformer::Transformer(const ModelConfig& config, const ModelRuntime& runtime, const Context& context,
                         Backend& backend) {
  check(config);
  check(runtime, backend);
  check_tensor_parallel(config, context.mesh().size(Axis::tp));
  impl_ = std::make_unique<Impl>(config, runtime, context, backend);
}

Transformer::~Transformer() = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
Backend& Transformer::backend() const { return impl_->backend; }
std::vector<Parameter>& Transformer::parameters() { return impl_->store.parameters(); }
Tensor Transformer::gradients() { return impl_->store.gradients(); }
void Transformer::zero_gradients() { impl_->backend.fill(impl_->store.gradients(), 0.0); }
void Transformer::reduce_replicated_gradients() { impl_->replicated->sum(impl_->store.parameters()); }
void Transformer::refresh_compute() { impl_->store.refresh_compute(impl_->backend); }

std::int64_t Transformer::parameter_count() const {
  std::int64_t count = 0;
  for (const NamedShape& entry : parameter_shapes(impl_->config)) count += element_count(entry.shape);
  return count;
}

void Transformer::initialise(std::uint64_t seed) {
  for (const Parameter& parameter : parameters()) {
    if (parameter.value.defined()) {
      initialise(parameter, seed);
      continue;
    }
    Parameter whole = parameter;
    whole.value = Tensor(impl_->backend.runtime(), parameter.compute.shape(), impl_->master);
    initialise(whole, seed);
    impl_->backend.cast(whole.value, parameter.compute);
  }
  refresh_compute();
}

void Transformer::initialise(const Parameter& part, std::uint64_t seed) const {
  constexpr double deviation = 0.02;
  const std::string_view name = part.name;
  if (part.full_shape.size() < 2) return init_constant(part, ends_with(name, "norm.weight") ? 1.0 : 0.0);
  const bool output_side = ends_with(name, "attention.output.weight") || ends_with(name, "ffn.down.weight");
  init_normal(part, seed,
              output_side ? deviation / std::sqrt(2.0 * static_cast<double>(impl_->config.layers)) : deviation);
}

std::vector<std::vector<std::size_t>> Transformer::gradient_sections() const {
  std::map<std::string, std::size_t> index;
  for (const Parameter& parameter : impl_->store.parameters()) index.emplace(parameter.name, index.size());
  std::vector<std::vector<std::size_t>> sections;
  for (const std::vector<std::string>& names : sections_of_gradients(impl_->config)) {
    sections.emplace_back();
    for (const std::string& name : names) sections.back().push_back(index.at(name));
  }
  return sections;
}

LossResult Transformer::train_step(const ModelBatch& batch, double scale,
                                   const std::function<void(std::size_t)>& reached) {
  Tape tape(impl_->backend, Recording::on);
  LossResult result = impl_->loss(tape, impl_->pass(batch, nullptr), scale, nullptr);
  tape.backward(reached);
  return result;
}

LossResult Transformer::evaluate(const ModelBatch& batch, KeyValueCache* cache, const AttentionProbe& probe) {
  Tape tape(impl_->backend, Recording::off);
  const SequencePass sequence = impl_->pass(batch, cache);
  LossResult result = impl_->loss(tape, sequence, 0.0, probe);
  result.nll = sequence.gather(result.own);
  return result;
}

Tensor Transformer::logits(const ModelBatch& batch, Rows rows, KeyValueCache* cache) {
  Tape tape(impl_->backend, Recording::off);
  const SequencePass sequence = impl_->pass(batch, cache);
  const RowShards shards(impl_->tp, sequence.rows().tokens.rows());
  Tensor h = sequence.gather(start_gather_rows(impl_->hidden(tape, sequence, shards, nullptr).value(), shards).wait());
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
  return vocabulary_logits(impl_->backend, h, impl_->weights.output, impl_->config.vocab, impl_->tp);
}

std::unique_ptr<KeyValueCache> Transformer::make_cache() const {
  const AttentionSpec& spec = impl_->spec;
  return std::make_unique<KeyValueCache>(impl_->backend.runtime(), impl_->config.layers,
                                         spec.kv_heads * spec.head_width, impl_->working);
}

void Transformer::set_attention(const AttentionConfig& attention) {
  impl_->pattern = make_pattern(attention);
  impl_->config.attention = attention;
}

void Transformer::set_position(const PositionConfig& position) {
  ModelConfig config = impl_->config;
  config.position = position;
  const bool same = impl_->position->learned_table() == make_position(config)->learned_table();
  require_usage(same,
                "positions of kind {} need other parameters than those of kind {}; choose the kind of the training",
                position.kind, impl_->config.position.kind);
  impl_->position = make_position(config);
  impl_->spec = impl_->specified(config, *impl_->position);
  impl_->config = config;
  impl_->rotary_tables = {};  // kept by position, not by angle
  impl_->added = {};
}

double Transformer::step_flops(const ModelBatch& batch) const {
  const ModelConfig& config = impl_->config;
  double matrices = config.tied ? static_cast<double>(config.vocab * config.width) : 0.0;
  for (const NamedShape& entry : parameter_shapes(config)) {
    const bool product = entry.shape.size() >= 2 && entry.name != "embedding" && entry.name != "position.learned";
    if (product) matrices += static_cast<double>(element_count(entry.shape));
  }
  const Visibility visible =
      impl_->pattern->visibility(batch.tokens, document_places(batch, impl_->pattern->sinks(), nullptr));
  const double pairs = visible_pairs(batch.tokens, visible);
  const double all = 6.0 * matrices * static_cast<double>(batch.tokens.rows()) +
                     12.0 * static_cast<double>(config.width * config.layers) * pairs;
  return all / impl_->context.mesh().size(Axis::cp);
}

}  // namespace lexring
