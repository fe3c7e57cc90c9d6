/// A tiny model with random weights in double, and a dataset to measure it on.
#pragma once

#include <memory>
#include <random>
#include <string>

#include "jobs/evaluation/evaluator.h"
#include "tests/datasets/support.h"

namespace lexring::testing {

inline Dataset random_text(const TempDirectory& directory, int words) {
  std::mt19937 random(3);
  std::vector<std::string> texts;  // several to a window
  for (int i = 0; i < words; ++i) {
    if (i % 13 == 0) texts.emplace_back();
    texts.back() += std::to_string(random() % 100) + " ";
  }
  return make_dataset(directory, texts);
}

/// "landmark": causal, with a landmark after every five tokens, whose id is behind those of the data.
inline ModelConfig tiny_config(const std::string& pattern, std::int64_t vocab) {
  ModelConfig config;
  config.vocab = vocab;
  if (pattern == "landmark") {
    config = tiny_config("causal", vocab + 1);
    config.attention.normalizer = Normalizer::landmark;
    config.attention.landmark_every = 5;
    config.attention.landmark_token = vocab;
    return config;
  }
  config.layers = 2;
  config.width = 8;
  config.heads = config.kv_heads = 2;
  config.ffn_width = 16;
  config.attention.pattern = pattern;
  config.attention.block = 8;
  config.attention.window = 12;
  config.attention.sinks = pattern == "sink_window" ? 3 : 0;
  return config;
}

/// Weights ten times a usual initialisation: what attention sees must matter.
inline std::unique_ptr<Transformer> random_model(const ModelConfig& config, const Context& context, Backend& backend) {
  auto model = std::make_unique<Transformer>(config, ModelRuntime{Precision::fp64, Dtype::f64, Recompute::none},
                                             context, backend);
  model->initialise(5);
  for (const Parameter& parameter : model->parameters()) {
    if (!parameter.decayed) continue;
    for (std::int64_t i = 0; i < parameter.value.elements(); ++i) parameter.value.data<double>()[i] *= 10;
  }
  model->refresh_compute();
  return model;
}

}  // namespace lexring::testing
