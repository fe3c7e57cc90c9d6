#include "models/weights.h"

#include <map>
#include <optional>
#include <string_view>

#include "parallel/heads.h"
#include "parallel/tensor/shard.h"

namespace lexring {

namespace {

/// Declares arrays by the names of their parameters, as the plan has them.
class Declarer {
 public:
  Declarer(ParameterStore& store, const ModelConfig& config, const std::vector<ParameterRow>& plan,
           const Communicator& group)
      : store_(store), kv_heads_(config.kv_heads), group_(group) {
    for (const ParameterRow& row : plan) plan_.emplace(row.name, &row);
  }
  /// One array of these parameters, row after row; nullopt when the model has no such parameters.
  std::optional<std::size_t> array(const std::vector<std::string>& names) {
    std::vector<ParameterPart> parts;
    Use use = Use::product;
    for (const std::string& name : names) {
      const auto found = plan_.find(name);
      if (found == plan_.end()) return std::nullopt;
      const ParameterRow& row = *found->second;
      parts.push_back(part_of({name, row.shape}, cut_of(row.cut), group_));
      parts.back().decayed = row.decayed;
      parts.back().trainable = row.trainable;
      parts.back().domain = row.domain;
      use = row.use;
    }
    return store_.declare(std::move(parts), use);
  }

  bool has(const std::string& name) const { return plan_.contains(name); }
  /// Of this rank's part.
  std::int64_t rows(const std::string& name) const {
    const ParameterRow& row = *plan_.at(name);
    return part_of({name, row.shape}, cut_of(row.cut), group_).shape[0];
  }

 private:
  Cut cut_of(TensorCut cut) const {
    switch (cut) {
      case TensorCut::whole:
        return {};
      case TensorCut::rows:
        return {0, group_.size()};
      case TensorCut::columns:
        return {1, group_.size()};
      case TensorCut::key_value_rows:
        break;
    }
    return {0, kv_head_parts(kv_heads_, group_.size())};
  }

  ParameterStore& store_;
  std::int64_t kv_heads_;
  const Communicator& group_;
  std::map<std::string, const ParameterRow*> plan_;
};

struct Handles {
  std::optional<std::size_t> weight, bias;
  struct Adapter {
    struct Part {
      std::size_t b;
      std::int64_t first;
    };
    std::optional<std::size_t> a;
    std::vector<Part> parts;
  } adapter;
};

Handles::Adapter declare_adapter(Declarer& declarer, const std::string& layer, const std::vector<const char*>& parts) {
  Handles::Adapter adapter;
  std::vector<std::string> inputs;
  std::int64_t first = 0;
  for (const char* part : parts) {
    const std::string name = layer + part;
    if (declarer.has(name + ".lora_a")) {
      inputs.push_back(name + ".lora_a");
      adapter.parts.push_back({declarer.array({name + ".lora_b"}).value(), first});
    }
    if (parts.size() > 1) first += declarer.rows(name + ".weight");
  }
  if (!inputs.empty()) adapter.a = declarer.array(inputs);
  return adapter;
}

Handles declare(Declarer& declarer, const std::string& layer, const std::vector<const char*>& parts) {
  std::vector<std::string> weights, biases;
  for (const char* part : parts) {
    weights.push_back(layer + part + ".weight");
    biases.push_back(layer + part + ".bias");
  }
  return {declarer.array(weights), declarer.array(biases), declare_adapter(declarer, layer, parts)};
}

struct LayerHandles {
  Handles attention_norm, qkv, forget, attention_sub_norm, output, ffn_norm, ffn_in, ffn_sub_norm, down;
  std::optional<std::size_t> query_norm, key_norm, ssmax;
};

LayerHandles declare_layer(Declarer& declarer, const ModelConfig& config, std::int64_t n) {
  const std::string layer = fmt::format("layers.{}.", n);
  const auto part = [&](const char* name) { return declare(declarer, layer, {name}); };
  LayerHandles handles;
  handles.attention_norm = part("attention.norm");
  handles.qkv = declare(declarer, layer, {"attention.query", "attention.key", "attention.value"});
  handles.query_norm = declarer.array({layer + "attention.query_norm.weight"});
  handles.key_norm = declarer.array({layer + "attention.key_norm.weight"});
  handles.forget = part("attention.forget");
  handles.ssmax = declarer.array({layer + "attention.ssmax"});
  handles.attention_sub_norm = part("attention.sub_norm");
  handles.output = part("attention.output");
  handles.ffn_norm = part("ffn.norm");
  handles.ffn_in = config.ffn == Ffn::swiglu ? declare(declarer, layer, {"ffn.gate", "ffn.up"}) : part("ffn.up");
  handles.ffn_sub_norm = part("ffn.sub_norm");
  handles.down = part("ffn.down");
  return handles;
}

/// Names of the parameters that share a storage for their gradients, section by section.
std::vector<std::vector<std::string>> sharing(const ModelConfig& config, const LayerRange& range,
                                              const std::vector<ParameterRow>& plan) {
  std::vector<std::vector<std::string>> sections(static_cast<std::size_t>(range.count()) + 2);
  for (const ParameterRow& row : plan) sections[row.section].push_back(row.name);
  if (config.tied && range.embedding && range.head) sections.pop_back();  // in use from the loss on
  return sections;
}

bool can_share(const ModelConfig& config, int ranks) {
  return heads_fit(config.heads, config.kv_heads, ranks) && config.ffn_width % ranks == 0;
}

}  // namespace

void check_tensor_parallel(const ModelConfig& config, int ranks) {
  if (can_share(config, ranks)) return;
  std::string choices;
  for (int r = 1; r <= config.heads; ++r) {
    if (can_share(config, r)) choices += fmt::format("{}{}", choices.empty() ? "" : ", ", r);
  }
  require_usage(config.heads % ranks == 0, "mesh.tp = {} does not divide model.heads = {}; choose one of {}", ranks,
                config.heads, choices);
  require_usage(config.ffn_width % ranks == 0, "mesh.tp = {} does not divide model.ffn_width = {}; choose one of {}",
                ranks, config.ffn_width, choices);
  require_usage(false, "mesh.tp = {} neither divides model.kv_heads = {} nor is a multiple of it; choose one of {}",
                ranks, config.kv_heads, choices);
}

ModelWeights make_weights(const ModelConfig& config, const LayerRange& range, const std::vector<ParameterRow>& plan,
                          const Communicator& group, Backend& backend, Dtype master, Dtype working, Held held,
                          ParameterStore& store) {
  Declarer declarer(store, config, plan, group);
  const auto embedding = range.embedding ? declarer.array({"embedding"}) : std::nullopt;
  std::map<std::string, std::optional<std::size_t>> positions;
  for (const ParameterRow& row : plan) {
    if (row.of_position) positions[row.name] = declarer.array({row.name});
  }
  std::vector<LayerHandles> layers;
  for (std::int64_t n = range.first; n < range.last; ++n) layers.push_back(declare_layer(declarer, config, n));
  const Handles last_norm = declare(declarer, "", {"norm"});
  const auto output = declarer.array({config.tied && !range.embedding ? "embedding" : "output"});
  std::vector<NamedShape> order;
  for (const ParameterRow& row : plan) order.push_back({row.name, row.shape});
  store.allocate(backend, master, working, order, held, sharing(config, range, plan));

  const auto vector = [&](std::optional<std::size_t> handle) { return handle ? store.vector(*handle) : Vector(); };
  const auto linear = [&](const Handles& handles) {
    LinearWeights weights{store.weight(handles.weight.value()), vector(handles.bias), {}};
    if (!handles.adapter.a) return weights;
    weights.adapter.a = store.weight(*handles.adapter.a);
    weights.adapter.scale = config.adapter.alpha / static_cast<double>(config.adapter.rank);
    for (const auto& [b, first] : handles.adapter.parts) weights.adapter.parts.push_back({store.weight(b), first});
    return weights;
  };
  const auto gate = [&](const Handles& handles) { return handles.weight ? linear(handles) : LinearWeights(); };
  const auto norm = [&](const Handles& handles) {
    return Norm{config.norm, config.norm_eps, vector(handles.weight), vector(handles.bias)};
  };
  ModelWeights weights;
  if (range.embedding) weights.embedding = vector(embedding);
  for (const auto& [name, handle] : positions) weights.positions[name] = vector(handle);
  for (const LayerHandles& layer : layers) {
    weights.layers.push_back({.attention_norm = norm(layer.attention_norm),
                              .attention_sub_norm = norm(layer.attention_sub_norm),
                              .ffn_norm = norm(layer.ffn_norm),
                              .ffn_sub_norm = norm(layer.ffn_sub_norm),
                              .qkv = linear(layer.qkv),
                              .head_norms = {config.norm_eps, vector(layer.query_norm), vector(layer.key_norm)},
                              .forget = gate(layer.forget),
                              .ssmax = vector(layer.ssmax),
                              .output = linear(layer.output),
                              .ffn_in = linear(layer.ffn_in),
                              .down = linear(layer.down)});
  }
  weights.norm = norm(last_norm);
  if (range.head) weights.output = store.weight(output ? *output : embedding.value());
  return weights;
}

}  // namespace lexring
