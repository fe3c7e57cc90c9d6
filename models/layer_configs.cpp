#include "models/layer_configs.h"

#include <algorithm>

#include "framework/base/error.h"
#include "models/patterns.h"

namespace lexring {

namespace {

template <class Part>
void use(ModelConfig& config, Part ModelConfig::*of_model, Part LayerConfig::*of_layer, const Part& part) {
  for (auto& [number, layer] : config.override) {
    if (layer.*of_layer == config.*of_model) layer.*of_layer = part;
  }
  config.*of_model = part;
}

/// The attention of a layer that has landmarks, if there is one. Before the number of layers has been checked, too.
const AttentionConfig* with_landmarks(const ModelConfig& config) {
  for (const auto& [number, layer] : config.override)
    if (layer.attention.landmarks()) return &layer.attention;
  const bool all_differ = static_cast<std::int64_t>(config.override.size()) >= config.layers;
  return config.attention.landmarks() && !all_differ ? &config.attention : nullptr;
}

}  // namespace

std::int64_t sinks_of(const ModelConfig& config) {
  std::int64_t sinks = 0;
  for (std::int64_t n = 0; n < config.layers; ++n)
    sinks = std::max(sinks, make_pattern(config.layer(n).attention)->sinks());
  return sinks;
}

std::int64_t landmark_of(const ModelConfig& config) {
  const AttentionConfig* const own = with_landmarks(config);
  return own != nullptr ? own->landmark_token : -1;
}

std::int64_t landmark_every_of(const ModelConfig& config) {
  const AttentionConfig* const own = with_landmarks(config);
  return own != nullptr ? own->landmark_every : 0;
}

void use_last_id_for_landmarks(ModelConfig& config) {
  const auto use_last = [&](AttentionConfig& attention) {
    if (!attention.landmarks()) return;
    const std::int64_t last = config.vocab - 1;
    require_usage(attention.landmark_token == 0 || attention.landmark_token == last,
                  "attention.landmark_token = {}, but landmarks are no tokens of the data: they get the id behind "
                  "those, {}; leave attention.landmark_token out",
                  attention.landmark_token, last);
    attention.landmark_token = last;
  };
  use_last(config.attention);
  for (auto& [number, layer] : config.override) use_last(layer.attention);
}

AttentionConfig farthest_attention(const ModelConfig& config) {
  for (std::int64_t n = 0; n < config.layers; ++n) {
    if (config.layer(n).attention.pattern->sees_all()) return config.layer(n).attention;
  }
  return config.attention;
}

void use_position(ModelConfig& config, const PositionConfig& position) {
  use(config, &ModelConfig::position, &LayerConfig::position, PositionConfig(position));
}

void use_attention(ModelConfig& config, const AttentionConfig& attention) {
  use(config, &ModelConfig::attention, &LayerConfig::attention, AttentionConfig(attention));
}

}  // namespace lexring
