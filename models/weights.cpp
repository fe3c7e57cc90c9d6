#include "models/weights.h"

#include <map>
#include <optional>

namespace lexring {

namespace {

/// Declares arrays by the names of their parameters; shapes come from parameter_shapes, so that there is one list of them.
class Declarer {
 public:
  Declarer(ParameterStore& store, const ModelConfig& config) : store_(store) {
    for (NamedShape& entry : parameter_shapes(config)) shapes_[entry.name] = entry.shape;
  }
  /// nullopt when the model has no such parameters.
  std::optional<std::size_t> array(const std::vector<std::string>& names, Use use = Use::product) {
    std::vector<ParameterPart> rows;
    for (const std::string& name : names) {
      const auto found = shapes_.find(name);
      if (found == shapes_.end()) return std::nullopt;
      rows.emplace_back(name, found->second);
    }
    return store_.declare(std::move(rows), use);
  }

 private:
  ParameterStore& store_;
  std::map<std::string, Shape> shapes_;
};

struct Handles {
  std::optional<std::size_t> weight, bias;
};

Handles declare(Declarer& declarer, const std::string& layer, const std::vector<std::string>& parts) {
  std::vector<std::string> weights;
  std::vector<std::string> biases;
  for (const std::string& part : parts) {
    weights.push_back(layer + part + ".weight");
    biases.push_back(layer + part + ".bias");
  }
  return {declarer.array(weights), declarer.array(biases)};
}

struct LayerHandles {
  Handles attention_norm, qkv, attention_sub_norm, output, ffn_norm, ffn_in, ffn_sub_norm, down;
};

LayerHandles declare_layer(Declarer& declarer, const ModelConfig& config, std::int64_t n) {
  const std::string layer = fmt::format("layers.{}.", n);
  const std::vector<std::string> ffn_in =
      config.ffn == "swiglu" ? std::vector<std::string>{"ffn.gate", "ffn.up"} : std::vector<std::string>{"ffn.up"};
  LayerHandles handles;
  handles.attention_norm = declare(declarer, layer, {"attention.norm"});
  handles.qkv = declare(declarer, layer, {"attention.query", "attention.key", "attention.value"});
  handles.attention_sub_norm = declare(declarer, layer, {"attention.sub_norm"});
  handles.output = declare(declarer, layer, {"attention.output"});
  handles.ffn_norm = declare(declarer, layer, {"ffn.norm"});
  handles.ffn_in = declare(declarer, layer, ffn_in);
  handles.ffn_sub_norm = declare(declarer, layer, {"ffn.sub_norm"});
  handles.down = declare(declarer, layer, {"ffn.down"});
  return handles;
}

}  // namespace

ModelWeights make_weights(const ModelConfig& config, Backend& backend, Dtype master, Dtype working, ParameterStore& store) {
  Declarer declarer(store, config);
  const auto embedding = declarer.array({"embedding"}, config.tied ? Use::product : Use::lookup);
  const auto learned = declarer.array({"position.learned"}, Use::lookup);
  std::vector<LayerHandles> layers;
  for (std::int64_t n = 0; n < config.layers; ++n) layers.push_back(declare_layer(declarer, config, n));
  const Handles last_norm = declare(declarer, "", {"norm"});
  const auto output = declarer.array({"output"});
  store.allocate(backend, master, working, parameter_shapes(config));

  const auto vector = [&](std::optional<std::size_t> handle) { return handle ? store.vector(*handle) : Vector(); };
  const auto linear = [&](const Handles& handles) { return LinearWeights{store.weight(handles.weight.value()), vector(handles.bias)}; };
  const auto norm = [&](const Handles& handles) {
    const NormKind kind = config.norm == "layernorm" ? NormKind::layernorm : NormKind::rmsnorm;
    return Norm{kind, config.norm_eps, vector(handles.weight), vector(handles.bias)};
  };
  ModelWeights weights;
  weights.embedding = vector(embedding);
  weights.learned = vector(learned);
  for (const LayerHandles& layer : layers) {
    weights.layers.push_back({.attention_norm = norm(layer.attention_norm),
                              .attention_sub_norm = norm(layer.attention_sub_norm),
                              .ffn_norm = norm(layer.ffn_norm),
                              .ffn_sub_norm = norm(layer.ffn_sub_norm),
                              .qkv = linear(layer.qkv),
                              .output = linear(layer.output),
                              .ffn_in = linear(layer.ffn_in),
                              .down = linear(layer.down)});
  }
  weights.norm = norm(last_norm);
  weights.output = store.weight(output ? *output : embedding.value());
  return weights;
}

}  // namespace lexring
