#include "models/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "framework/nn/init.h"
#include "models/batch.h"
#include "models/config_check.h"
#include "models/layer.h"
#include "models/parameter_plan.h"
#include "models/sequence/pass.h"
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
  std::unique_ptr<PositionEncoding> embedded_position;  ///< the model's own: what is added to embeddings
  AttentionKinds kinds;
  std::vector<ParameterRow> plan;
  ParameterStore store;
  ModelWeights weights;
  std::optional<ReplicatedGradients> replicated;
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
        embedded_position(make_position(model, model.position)),
        kinds(model, tp),
        plan(parameter_plan(model)) {
    weights = make_weights(config, plan, tp, backend, master, working, how.held, store);
    replicated.emplace(tp, store.parameters());
  }

  const ParameterRow& row(const std::string& name) const {
    const auto found = std::find_if(plan.begin(), plan.end(), [&](const auto& other) { return other.name == name; });
    require(found != plan.end(), "the model has no parameter {}", name);
    return *found;
  }

  Var embed(Tape& tape, const ModelBatch& batch, const RowShards& shards) {
    Runtime& runtime = backend.runtime();
    const Lookup tokens{Tensor::from(runtime, {shards.rows()}, slice_ids(batch.ids, config.vocab, tp)),
                        weights.embedding};
    const auto first = batch.tokens.position.begin() + shards.first();
    const std::vector<std::int64_t> own(first, first + shards.count());
    PositionTerms positions;
    if (const std::string name = embedded_position->added_parameter(); !name.empty()) {
      positions.lookup = {Tensor::from(runtime, {shards.count()}, std::vector<std::int32_t>(own.begin(), own.end())),
                          weights.positions.at(name)};
    }
    positions.constant = added_positions(own);
    return vocabulary_embedding(tape, tokens, positions, residual, shards);
  }

  /// The constant of the position method, kept while positions repeat (all steps of a training have the same);
  /// undefined: none.
  Tensor added_positions(const std::vector<std::int64_t>& positions) {
    if (added.defined() && positions == added_at) return added;
    const std::vector<double> values = embedded_position->added(positions, config.width);
    if (values.empty()) return {};
    const Shape shape = {static_cast<std::int64_t>(positions.size()), config.width};
    added_at = positions;
    added = master == Dtype::f64
                ? Tensor::from(backend.runtime(), shape, values)
                : Tensor::from(backend.runtime(), shape, std::vector<float>(values.begin(), values.end()));
    return added;
  }

  std::shared_ptr<const SequencePass> pass(const ModelBatch& batch, ModelCache* cache) {
    check(batch, config);
    const PartitionKind partition =
        how.partition == PartitionKind::automatic ? default_partition(config) : how.partition;
    return make_pass({backend, context, partition, how.exchange, kinds, master}, batch, cache);
  }

  /// The score bias of every kind of layers, for every distance in a batch: which rank attends with which of its rows
  /// differs from layer to layer.
  std::vector<BiasTerms> biases(Tape& tape, const TokenTable& batch) const {
    std::int64_t longest = 0;
    for (const std::int64_t position : batch.position) longest = std::max(longest, position);
    std::vector<BiasTerms> terms;
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      terms.push_back({kinds[k].slopes, kinds[k].position->bias_by_distance(tape, weights.positions, longest, master)});
    }
    return terms;
  }

  Stream layer(Tape& tape, std::int64_t n, const Attend& with, const RowShards& shards, Stream in) {
    const LayerWeights& parts = weights.layers[static_cast<std::size_t>(n)];
    const Recompute again = tape.recording() ? how.recompute : Recompute::none;
    if (again == Recompute::none) return whole_layer(tape, parts, working, with, shards, std::move(in));
    const auto body = again == Recompute::layer ? whole_layer : attention_half;
    const std::vector<Var> out = recompute(
        tape, {in.x, in.branch}, [this, body, &parts, with, shards](Tape& inner, const std::vector<Var>& vars) {
          Stream next = body(inner, parts, working, with, shards, {vars[0], vars[1]});
          return std::vector<Var>{next.x, next.branch};
        });
    if (again == Recompute::layer) return {out[0], out[1]};
    return feed_forward_half(tape, parts, working, shards, {out[0], out[1]});
  }

  /// The forward pass up to the input of the output projection, this rank's rows of [N, D], where N are those of its
  /// place on cp.
  Var hidden(Tape& tape, const ModelBatch& batch, const std::shared_ptr<const SequencePass>& sequence,
             const RowShards& shards, const AttentionProbe& probe) {
    const auto layers = static_cast<std::size_t>(config.layers);
    tape.mark(layers + 1);  // sections of gradients, last to first
    const std::vector<BiasTerms> bias = biases(tape, batch.tokens);
    Stream stream{embed(tape, sequence->rows(), shards), Var()};
    for (std::int64_t n = 0; n < config.layers; ++n) {
      tape.mark(layers - static_cast<std::size_t>(n));
      const Attend attend = [sequence, n, probe, own = bias[kinds.of_layer(n)]](Tape& inner, const Var& qkv) {
        return sequence->attend(inner, n, own, probe, qkv);
      };
      stream = layer(tape, n, attend, shards, std::exchange(stream, {}));
    }
    tape.mark(0);
    return final_norm(tape, weights.norm, working, stream);
  }

  LossResult loss(Tape& tape, const ModelBatch& batch, const std::shared_ptr<const SequencePass>& sequence,
                  double scale, const AttentionProbe& probe) {
    const ModelBatch& rows = sequence->rows();
    require(rows.targets.size() == rows.ids.size(), "a loss needs targets, but the batch has none");
    const RowShards shards(tp, rows.tokens.rows());
    const MemoryPurpose purpose("embedding, loss");
    const Var h = hidden(tape, batch, sequence, shards, probe);
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
  for (const ParameterRow& row : impl_->plan) count += element_count(row.shape);
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
  switch (impl_->row(part.name).initialiser) {
    case Initialiser::normal:
      return init_normal(part, seed, deviation);
    case Initialiser::output_side:
      return init_normal(part, seed, deviation / std::sqrt(2.0 * static_cast<double>(impl_->config.layers)));
    case Initialiser::one:
      return init_constant(part, 1.0);
    case Initialiser::zero:
      return init_constant(part, 0.0);
  }
}

std::vector<std::vector<std::size_t>> Transformer::gradient_sections() const {
  std::vector<std::vector<std::size_t>> sections(static_cast<std::size_t>(impl_->config.layers) + 2);
  for (std::size_t i = 0; i < impl_->plan.size(); ++i) sections[impl_->plan[i].section].push_back(i);
  return sections;
}

LossResult Transformer::train_step(const ModelBatch& batch, double scale,
                                   const std::function<void(std::size_t)>& reached) {
  Tape tape(impl_->backend, Recording::on);
  LossResult result = impl_->loss(tape, batch, impl_->pass(batch, nullptr), scale, nullptr);
  tape.backward(reached);
  return result;
}

LossResult Transformer::evaluate(const ModelBatch& batch, ModelCache* cache, const AttentionProbe& probe) {
  Tape tape(impl_->backend, Recording::off);
  const auto sequence = impl_->pass(batch, cache);
  LossResult result = impl_->loss(tape, batch, sequence, 0.0, probe);
  result.nll = sequence->gather(result.own);
  return result;
}

Tensor Transformer::logits(const ModelBatch& batch, Rows rows, ModelCache* cache) {
  Tape tape(impl_->backend, Recording::off);
  const auto sequence = impl_->pass(batch, cache);
  const RowShards shards(impl_->tp, sequence->rows().tokens.rows());
  const Var own = impl_->hidden(tape, batch, sequence, shards, nullptr);
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
  return vocabulary_logits(impl_->backend, h, impl_->weights.output, impl_->config.vocab, impl_->tp);
}

std::unique_ptr<ModelCache> Transformer::make_cache() const {
  auto cache = std::make_unique<ModelCache>();
  std::vector<std::size_t> layers(impl_->kinds.size());
  for (std::int64_t n = 0; n < impl_->config.layers; ++n) cache->place.push_back(layers[impl_->kinds.of_layer(n)]++);
  for (std::size_t k = 0; k < impl_->kinds.size(); ++k) {
    cache->kinds.emplace_back(impl_->backend.runtime(), static_cast<std::int64_t>(layers[k]),
                              impl_->kinds[k].form.key_width(), impl_->working);
  }
  return cache;
}

void Transformer::set_attention(const AttentionConfig& attention) {
  ModelConfig config = impl_->config;
  config.attention = attention;
  impl_->kinds = AttentionKinds(config, impl_->tp);
  impl_->config = config;
}

void Transformer::set_position(const PositionConfig& position) {
  ModelConfig config = impl_->config;
  config.position = position;
  auto encoding = make_position(config, position);
  const auto names = [](const std::vector<ParameterRow>& rows) {
    std::vector<std::string> all;
    for (const ParameterRow& row : rows) all.push_back(row.name + to_string(row.shape));
    return all;
  };
  require_usage(names(parameter_plan(config)) == names(impl_->plan),
                "positions of kind {} need other parameters than those of kind {}; choose the kind of the training",
                position.kind->name, impl_->config.position.kind->name);
  impl_->kinds = AttentionKinds(config, impl_->tp);
  impl_->embedded_position = std::move(encoding);
  impl_->config = config;
  impl_->added = {};
}

double Transformer::step_flops(const ModelBatch& batch) const {
  const ModelConfig& config = impl_->config;
  double matrices = 0;
  for (const ParameterRow& row : impl_->plan) {
    if (row.shape.size() >= 2 && row.use != Use::lookup) matrices += static_cast<double>(element_count(row.shape));
  }
  double pairs = 0;  // of all layers
  for (std::size_t k = 0; k < impl_->kinds.size(); ++k) {
    pairs += static_cast<double>(impl_->kinds.layers(k)) *
             visible_pairs(batch.tokens, visibility(batch, *impl_->kinds[k].pattern, nullptr));
  }
  const double all =
      6.0 * matrices * static_cast<double>(batch.tokens.rows()) + 12.0 * static_cast<double>(config.width) * pairs;
  return all / impl_->context.mesh().size(Axis::cp);
}

}  // namespace lexring
