#include "models/weights.h"

#include <map>
#include <optional>
#include <string_view>

#include "parallel/tensor/heads.h"
#include "parallel/tensor/shard.h"

namespace lexring {

namespace {

/// How arrays are cut over the tensor-parallel group.
struct Cuts {
  Cut whole, rows, columns, key_value_rows;

  Cuts(const ModelConfig& config, int ranks)
      : rows{0, ranks}, columns{1, ranks}, key_value_rows{0, key_value_shares(config.kv_heads, ranks)} {}
};

struct CutName {
  std::string name;
  Cut cut;
};

/// Declares arrays by the names of their parameters; shapes come from parameter_shapes, so that there is one list of
/// them.
class Declarer {
 public:
  Declarer(ParameterStore& store, const ModelConfig& config, const Communicator& group) : store_(store), group_(group) {
    for (NamedShape& entry : parameter_shapes(config)) shapes_[entry.name] = entry.shape;
  }
  /// nullopt when the model has no such parameters.
  std::optional<std::size_t> array(const std::vector<CutName>& names, Use use = Use::product) {
    std::vector<ParameterPart> rows;
    for (const auto& [name, cut] : names) {
      const auto found = shapes_.find(name);
      if (found == shapes_.end()) return std::nullopt;
      rows.push_back(part_of({name, found->second}, cut, group_));
    }
    return store_.declare(std::move(rows), use);
  }

 private:
  ParameterStore& store_;
  const Communicator& group_;
  std::map<std::string, Shape> shapes_;
};

struct Handles {
  std::optional<std::size_t> weight, bias;
};

/// Weights and biases; a bias is cut as the rows of its weight are.
Handles declare(Declarer& declarer, const std::string& layer, const std::vector<CutName>& parts) {
  std::vector<CutName> weights;
  std::vector<CutName> biases;
  for (const auto& [name, cut] : parts) {
    weights.push_back({layer + name + ".weight", cut});
    biases.push_back({layer + name + ".bias", cut.dim == 0 ? cut : Cut{}});
  }
  return {declarer.array(weights), declarer.array(biases)};
}

struct LayerHandles {
  Handles attention_norm, qkv, attention_sub_norm, output, ffn_norm, ffn_in, ffn_sub_norm, down;
};

LayerHandles declare_layer(Declarer& declarer, const ModelConfig& config, const Cuts& cuts, std::int64_t n) {
  const std::string layer = fmt::format("layers.{}.", n);
  std::vector<CutName> ffn_in = {{"ffn.up", cuts.rows}};
  if (config.ffn == "swiglu") ffn_in.insert(ffn_in.begin(), {"ffn.gate", cuts.rows});
  const auto norm = [&](const char* name) { return declare(declarer, layer, {{name, cuts.whole}}); };
  LayerHandles handles;
  handles.attention_norm = norm("attention.norm");
  handles.qkv = declare(declarer, layer,
                        {{"attention.query", cuts.rows},
                         {"attention.key", cuts.key_value_rows},
                         {"attention.value", cuts.key_value_rows}});
  handles.attention_sub_norm = norm("attention.sub_norm");
  handles.output = declare(declarer, layer, {{"attention.output", cuts.columns}});
  handles.ffn_norm = norm("ffn.norm");
  handles.ffn_in = declare(declarer, layer, ffn_in);
  handles.ffn_sub_norm = norm("ffn.sub_norm");
  handles.down = declare(declarer, layer, {{"ffn.down", cuts.columns}});
  return handles;
}

bool can_share(const ModelConfig& config, int ranks) {
  return config.heads % ranks == 0 && config.ffn_width % ranks == 0 &&
         (config.kv_heads % ranks == 0 || ranks % config.kv_heads == 0);
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

std::vector<std::vector<std::string>> sections_of_gradients(const ModelConfig& config) {
  constexpr std::string_view block = "layers.";
  const auto layers = static_cast<std::size_t>(config.layers);
  std::vector<std::vector<std::string>> sections(layers + 2);
  for (const NamedShape& entry : parameter_shapes(config)) {
    const std::string& name = entry.name;
    const bool last = name.starts_with("norm.") || name == "output";
    sections[name.starts_with(block) ? layers - std::stoul(name.substr(block.size()))
             : last                  ? 0
                                     : layers + 1]
        .push_back(name);
  }
  return sections;
}

ModelWeights make_weights(const ModelConfig& config, const Communicator& group, Backend& backend, Dtype master,
                          Dtype working, Held held, ParameterStore& store) {
  Declarer declarer(store, config, group);
  const Cuts cuts(config, group.size());
  const auto embedding = declarer.array({{"embedding", cuts.rows}}, config.tied ? Use::both : Use::lookup);
  const auto learned = declarer.array({{"position.learned", cuts.whole}}, Use::lookup);
  std::vector<LayerHandles> layers;
  for (std::int64_t n = 0; n < config.layers; ++n) layers.push_back(declare_layer(declarer, config, cuts, n));
  const Handles last_norm = declare(declarer, "", {{"norm", cuts.whole}});
  const auto output = declarer.array({{"output", cuts.rows}});
  std::vector<std::vector<std::string>> sharing = sections_of_gradients(config);
  if (config.tied) sharing.pop_back();  // the embedding's gradient is in use from the loss on
  store.allocate(backend, master, working, parameter_shapes(config), held, sharing);

  const auto vector = [&](std::optional<std::size_t> handle) { return handle ? store.vector(*handle) : Vector(); };
  const auto linear = [&](const Handles& handles) {
    return LinearWeights{store.weight(handles.weight.value()), vector(handles.bias)};
  };
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
