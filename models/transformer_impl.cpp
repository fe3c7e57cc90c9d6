#include "models/transformer_impl.h"

#include <algorithm>
#include <cmath>

#include "framework/nn/init.h"
#include "models/config_check.h"
#include "models/layer_configs.h"

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
                "the reference device has no bf16 residual stream; choose train.residual = fp32");
}

}  // namespace

Transformer::Impl::Impl(const ModelConfig& model, const ModelRuntime& runtime, const Context& mesh, Backend& device,
                        const LayerRange& part)
    : built(model),
      config(model),
      range(part),
      how(runtime),
      context(mesh),
      tp(mesh.axis(Axis::tp)),
      backend(device),
      working(working_dtype(runtime.precision)),
      master(runtime.precision == Precision::fp64 ? Dtype::f64 : Dtype::f32),
      residual(runtime.precision == Precision::fp64 ? Dtype::f64 : runtime.residual),
      embedded_position(make_position(model, model.position)),
      kinds(model, part, tp),
      plan(parameter_plan(model, part)) {
  freeze(plan, how.frozen);
  weights = make_weights(config, range, plan, tp, backend, master, working, how.held, store);
  std::copy_if(store.parameters().begin(), store.parameters().end(), std::back_inserter(trained),
               [](const Parameter& parameter) { return parameter.gradient.defined(); });
}

const ParameterRow& Transformer::Impl::row(const std::string& name) const {
  const auto found = std::find_if(plan.begin(), plan.end(), [&](const auto& other) { return other.name == name; });
  require(found != plan.end(), "the model has no parameter {}", name);
  return *found;
}

void Transformer::Impl::require_all_layers(const char* what) const {
  require(range.embedding && range.head && range.count() == config.layers,
          "{} needs all layers of the model, and this is a range of them: [{}, {}) of {}", what, range.first,
          range.last, config.layers);
}

Transformer::Transformer(const ModelConfig& config, const ModelRuntime& runtime, const Context& context,
                         Backend& backend)
    : Transformer(config, runtime, context, backend, all_layers(config)) {}

Transformer::Transformer(const ModelConfig& config, const ModelRuntime& runtime, const Context& context,
                         Backend& backend, const LayerRange& range) {
  check(config);
  check(runtime, backend);
  check_frozen(config, runtime.frozen);
  check_tensor_parallel(config, context.mesh().size(Axis::tp));
  require(0 <= range.first && range.first <= range.last && range.last <= config.layers,
          "layers [{}, {}) are not a range of the model's {}", range.first, range.last, config.layers);
  impl_ = std::make_unique<Impl>(config, runtime, context, backend, range);
}

Transformer::~Transformer() = default;

const ModelConfig& Transformer::config() const { return impl_->config; }
Backend& Transformer::backend() const { return impl_->backend; }
std::vector<Parameter>& Transformer::parameters() { return impl_->store.parameters(); }
const std::vector<Parameter>& Transformer::trained() const { return impl_->trained; }
Tensor Transformer::gradients() { return impl_->store.gradients(); }
void Transformer::set_recompute(Recompute what) { impl_->how.recompute = what; }
void Transformer::refresh_compute() { impl_->store.refresh_compute(impl_->backend); }

bool Transformer::of_adapter(const Parameter& parameter) const { return impl_->row(parameter.name).of_adapter; }

std::int64_t Transformer::parameter_count() const {
  std::int64_t count = 0;
  for (const ParameterRow& row : impl_->plan) count += element_count(row.shape);
  return count;
}

std::int64_t Transformer::trained_count() const {
  std::int64_t count = 0;
  for (const ParameterRow& row : impl_->plan) count += row.trainable ? element_count(row.shape) : 0;
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
    case Initialiser::uniform:
      return init_uniform(part, seed, impl_->row(part.name).initial);
  }
}

std::vector<std::vector<std::size_t>> Transformer::gradient_sections() const {
  std::vector<std::vector<std::size_t>> sections(static_cast<std::size_t>(impl_->range.count()) + 2);
  std::size_t i = 0;
  for (const ParameterRow& row : impl_->plan) {
    if (row.trainable) sections[row.section].push_back(i++);
  }
  return sections;
}

std::unique_ptr<ModelCache> Transformer::make_cache() const {
  impl_->require_all_layers("a cache");
  check_streaming(impl_->config);
  auto cache = std::make_unique<ModelCache>();
  std::vector<std::size_t> layers(impl_->kinds.size());
  for (std::int64_t n = 0; n < impl_->config.layers; ++n)
    cache->place.push_back(layers[impl_->kinds.of_layer(n).front()]++);
  for (std::size_t k = 0; k < impl_->kinds.size(); ++k) {
    cache->kinds.emplace_back(impl_->backend.runtime(), static_cast<std::int64_t>(layers[k]),
                              impl_->kinds[k].form.key_width(), impl_->working);
  }
  cache->landmarks.resize(cache->kinds.size());
  return cache;
}

void Transformer::set_attention(const AttentionConfig& attention) {
  ModelConfig config = impl_->built;
  use_position(config, impl_->config.position);
  use_attention(config, attention);
  check(config);
  impl_->kinds = AttentionKinds(config, impl_->range, impl_->tp);
  impl_->config = config;
}

void Transformer::set_position(const PositionConfig& position) {
  ModelConfig config = impl_->built;
  use_attention(config, impl_->config.attention);
  use_position(config, position);
  check(config);
  auto encoding = make_position(config, position);
  const auto names = [](const std::vector<ParameterRow>& rows) {
    std::vector<std::string> all;
    for (const ParameterRow& row : rows) all.push_back(row.name + to_string(row.shape));
    return all;
  };
  require_usage(names(parameter_plan(config, impl_->range)) == names(impl_->plan),
                "positions of kind {} need other parameters than those of kind {}; choose the kind of the training",
                position.kind->name, impl_->config.position.kind->name);
  impl_->kinds = AttentionKinds(config, impl_->range, impl_->tp);
  impl_->embedded_position = std::move(encoding);
  impl_->config = config;
  impl_->added = {};
}

double Transformer::step_flops(const ModelBatch& batch) const {
  const ModelConfig& config = impl_->config;
  double products = 0;  // of a token
  for (const ParameterRow& row : impl_->plan) {
    if (row.shape.size() < 2 || row.use == Use::lookup) continue;
    products += (row.trainable ? 6.0 : 4.0) * static_cast<double>(element_count(row.shape));
  }
  double pairs = 0;  // of all layers
  for (std::size_t k = 0; k < impl_->kinds.size(); ++k) {
    ModelBatch counted;
    const ModelBatch& seen = impl_->kinds[k].seen_as(batch, counted);
    const AttentionKind& kind = impl_->kinds[k];
    pairs += static_cast<double>(impl_->kinds.layers(k)) * static_cast<double>(kind.piece.heads) /
             static_cast<double>(kind.own_heads.heads) *
             visible_pairs(seen.tokens, visibility(seen, *impl_->kinds[k].pattern, nullptr));
  }
  const auto head_channels = static_cast<double>(config.heads * config.width_of_head());
  const double all = products * static_cast<double>(batch.tokens.rows()) + 12.0 * head_channels * pairs;
  return all / impl_->context.mesh().size(Axis::cp);
}

}  // namespace lexring
