#include "models/config_check.h"

#include <algorithm>
#include <limits>

#include "framework/base/counted.h"
#include "models/layer_configs.h"
#include "models/parameter_plan.h"
#include "models/patterns.h"
#include "models/positions/position.h"

namespace lexring {

namespace {

/// From 1 to `most`: more would be a slip, and products of sizes shall not overflow.
void require_size(const char* key, std::int64_t value, std::int64_t most) {
  require_usage(value > 0, "{} = {} is not positive; choose at least 1", key, value);
  require_usage(value <= most, "{} = {} is too large; choose at most {}", key, value, most);
}

std::string divisors(std::int64_t number) {
  std::string list;
  for (std::int64_t d = 1; d <= number; ++d) {
    if (number % d == 0) list += fmt::format("{}{}", list.empty() ? "" : ", ", d);
  }
  return list;
}

/// Distances in a cache are no differences of positions, and nothing may depend on where the query itself stands.
void check_cache_positions(const LayerConfig& layer) {
  const AttentionConfig& a = layer.attention;
  if (!a.cache_positions) return;
  require_usage(
      a.pattern->sinks,
      "attention.cache_positions = true with attention.pattern = {}: only a cache of sinks and a window leaves "
      "out what lies between; choose sink_window",
      a.pattern->name);
  require_usage(a.logn_base == 0 && a.floor_scale == 0,
                "attention.cache_positions = true with attention.logn_base or attention.floor_scale, which go by the "
                "query's own position; leave one of them out");
  const bool by_own = layer.position.kind->relative,
             by_difference = layer.position.kind->rotary &&
                             (layer.position.scaling == Scaling::modulo || layer.position.scaling == Scaling::repeat);
  require_usage(!by_own && !by_difference,
                "attention.cache_positions = true with position.{}, whose angles or biases are none of a distance in "
                "the cache; choose another",
                by_own ? "kind = fire" : fmt::format("scaling = {}", name_of(layer.position.scaling)));
}

void check_landmarks(const AttentionConfig& attention, std::int64_t vocab) {
  if (!attention.landmarks()) return;
  require_usage(attention.pattern->sees_all() && !attention.pattern->sees_later,
                "attention.normalizer = landmark with attention.pattern = {}: a query reaches its document's blocks by "
                "their landmarks, however far they are; choose causal",
                attention.pattern->name);
  require_usage(attention.landmark_every > 0,
                "attention.landmark_every = {} with attention.normalizer = landmark: that many tokens make a block; "
                "choose at least 1, e.g. 63",
                attention.landmark_every);
  require_usage(attention.landmark_token >= 0 && attention.landmark_token < vocab,
                "attention.landmark_token = {} is not in the vocabulary of {}; choose the id of the landmark",
                attention.landmark_token, vocab);
  require_usage(!attention.forget_gate,
                "attention.forget_gate = true with attention.normalizer = landmark: a gate closes token by token, and "
                "landmarks bring back whole blocks, however old; leave one of them out");
}

void check_adapter(const ModelConfig& config) {
  const AdapterConfig& adapter = config.adapter;
  if (adapter.rank == 0) return;
  require_usage(adapter.rank > 0 && adapter.rank <= std::max(config.width, config.ffn_width),
                "adapter.rank = {} is no rank of a matrix here; choose e.g. 16", adapter.rank);
  require_usage(static_cast<float>(adapter.alpha) > 0,
                "adapter.alpha = {} lets nothing be learned; choose e.g. adapter.rank", adapter.alpha);
  for (const AdapterTarget target : adapter.targets) {
    require_usage(std::count(adapter.targets.begin(), adapter.targets.end(), target) == 1,
                  "adapter.targets has {} more than once; leave it out once", name_of(target));
    require_usage(target != AdapterTarget::gate || config.ffn == Ffn::swiglu,
                  "adapter.targets has ffn.gate, which a model with model.ffn = {} does not have; leave it out",
                  name_of(config.ffn));
  }
  const std::vector<ParameterRow> plan = parameter_plan(config);
  for (const std::string& part : parts_of_names(adapter.trainable))
    require_usage(
        std::any_of(plan.begin(), plan.end(),
                    [&](const auto& row) { return row.name.find(part) != std::string::npos; }),
        "adapter.trainable = {} is in no parameter's name; give parts of their names, such as norm or embedding", part);
  for (const ParameterRow& row : plan) {
    const bool adapted = row.name.ends_with(".weight") && has_adapter(adapter, row.name.substr(0, row.name.rfind('.')));
    require_usage(!adapted || !row.trainable,
                  "adapter.trainable = {} trains {}, which has an adapter; leave it out of one of the two",
                  adapter.trainable, row.name);
  }
}

void check_factors(const AttentionConfig& attention) {
  require_usage(attention.logn_base == 0 || attention.logn_base > 1,
                "attention.logn_base = {} has a logarithm of 0 or none; choose the training length, or 0 for no log-n",
                attention.logn_base);
  require_usage(attention.logn_clip || attention.logn_base > 0,
                "attention.logn_clip = false has an effect only with attention.logn_base above 0; give it, e.g. 512");
  require_usage(attention.temperature > 0, "attention.temperature = {} is not positive; choose e.g. 1",
                attention.temperature);
  require_usage(attention.attn_scale == AttentionConfig().attn_scale || attention.floor_scale > 0,
                "attention.attn_scale has an effect only with attention.floor_scale above 0; give it, e.g. 8192");
  require_usage(attention.softcap == 0 || attention.softcap >= 1e-3,
                "attention.softcap = {} makes all scores alike; choose e.g. 50, or 0 for no cap", attention.softcap);
  require_usage(static_cast<float>(attention.relu_gamma) > 0,
                "attention.relu_gamma = {} is not positive in f32, and divides all weights; choose e.g. 1",
                attention.relu_gamma);
}

}  // namespace

void check(const ModelConfig& config) {
  constexpr std::int64_t most_ids = std::numeric_limits<std::int32_t>::max(), most_channels = 1 << 20,
                         most_layers = 1 << 16;
  require_size("model.vocab", config.vocab, most_ids);
  require_size("model.layers", config.layers, most_layers);
  require_size("model.width", config.width, most_channels);
  require_size("model.heads", config.heads, most_channels);
  require_size("model.kv_heads", config.kv_heads, most_channels);
  require_size("model.ffn_width", config.ffn_width, 16 * most_channels);
  require_size("model.max_length", std::max<std::int64_t>(config.max_length, 1), most_ids);
  require_usage(
      config.head_width >= 0 && config.head_width <= most_channels,
      "model.head_width = {} is not a number of channels; choose at most {}, or 0 for model.width / model.heads",
      config.head_width, most_channels);
  require_usage(
      config.head_width > 0 || config.width % config.heads == 0,
      "model.heads = {} does not divide model.width = {}; choose one of {}, or give a model.head_width of its own",
      config.heads, config.width, divisors(config.width));
  require_usage(config.width_of_head() % 2 == 0, "{} = {} is odd, but channels come in pairs; choose {}",
                config.head_width > 0 ? "model.head_width" : "model.width / model.heads", config.width_of_head(),
                config.head_width > 0 ? "an even one" : "other heads");
  require_usage(config.heads % config.kv_heads == 0,
                "model.kv_heads = {} does not divide model.heads = {}; choose one of {}", config.kv_heads, config.heads,
                divisors(config.heads));
  require_usage(static_cast<float>(config.norm_eps) > 0, "model.norm_eps = {} is 0 or less in f32; choose e.g. 1e-5",
                config.norm_eps);
  require_usage(config.override.empty() ||
                    (config.override.begin()->first >= 0 && config.override.rbegin()->first < config.layers),
                "layer {} is overridden, but there are layers 0 to {}",
                config.override.empty() ? 0 : config.override.rbegin()->first, config.layers - 1);
  std::int64_t sinks = 0;  // of documents: a batch says once where a document's end
  const std::int64_t every = landmark_every_of(config), landmark = landmark_of(config);
  for (std::int64_t n = 0; n < config.layers; ++n) {
    const LayerConfig layer = config.layer(n);
    const auto encoding = make_position(config, layer.position);
    require_usage(
        layer.position.kind == config.position.kind ||
            (encoding->added_parameter().empty() && encoding->added({0}, config.width).empty()),
        "layer {}: position.kind = {} is added to the embeddings, before all layers; give it to the model, or "
        "choose another kind here",
        n, layer.position.kind->name);
    check_factors(layer.attention);
    check_cache_positions(layer);
    check_landmarks(layer.attention, config.vocab);
    require_usage(
        !layer.attention.landmarks() ||
            (layer.attention.landmark_every == every && layer.attention.landmark_token == landmark),
        "layers with landmark {} after {} and with landmark {} after {}; all layers read the same text, so give them "
        "the same attention.landmark_every",
        landmark, counted(every, "token"), layer.attention.landmark_token,
        counted(layer.attention.landmark_every, "token"));
    require_usage(
        !layer.attention.pattern->sees_later || !layer.position.kind->relative,
        "position.kind = {} with attention.pattern = {}: its biases are by how far before the query a key is, "
        "of all that is before it, and here keys are after it too; choose another kind, e.g. t5",
        layer.position.kind->name, layer.attention.pattern->name);
    if (layer.attention.pattern->sees_later) encoding->check_sided();
    require_usage(!layer.attention.pattern->sees_later || !layer.attention.forget_gate,
                  "attention.forget_gate = true with attention.pattern = {}: the gate closes between a key and a query "
                  "after it, and here keys are after it too; leave the gate out, or choose a causal pattern",
                  layer.attention.pattern->name);
    const std::int64_t own = make_pattern(layer.attention)->sinks();
    require_usage(own == 0 || sinks == 0 || own == sinks, "layers with {} and with {} sinks; all must have as many",
                  sinks, own);
    sinks = std::max(sinks, own);
  }
  check_adapter(config);
}

void check_streaming(const ModelConfig& config) {
  require_usage(!config.follows_length(),
                "rotary angles that follow the length of the sequence ({}) need it whole, and here it comes chunk by "
                "chunk; choose another position.scaling, e.g. yarn",
                fmt::join(names_where<Scaling>(follows_length), ", "));
  require_usage(!config.sees_later(),
                "attention.pattern = full shows a token those after it, and here text comes piece by piece; choose a "
                "causal pattern, or evaluate whole windows");
  for (std::int64_t n = 0; n < config.layers; ++n) {
    require_usage(
        !config.layer(n).attention.pattern->halves,
        "attention.pattern = shifted is a pattern for training; choose causal, which such a model is meant for, "
        "or another");
  }
}

}  // namespace lexring
