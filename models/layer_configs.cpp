#include "models/layer_configs.h"

#include <algorithm>

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

}  // namespace

std::int64_t sinks_of(const ModelConfig& config) {
  std::int64_t sinks = 0;
  for (std::int64_t n = 0; n < config.layers; ++n)
    sinks = std::max(sinks, make_pattern(config.layer(n).attention)->sinks());
  return sinks;
}

std::int64_t landmark_of(const ModelConfig& config) {
  for (std::int64_t n = 0; n < config.layers; ++n) {
    if (const AttentionConfig own = config.layer(n).attention; own.landmarks()) return own.landmark_token;
  }
  return -1;
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
