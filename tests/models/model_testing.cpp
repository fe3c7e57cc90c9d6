#include "tests/models/model_testing.h"

#include <cmath>

#include "framework/nn/init.h"

namespace lexring {

namespace {

/// A scrambled, reproducible number in [0, 1).
double scramble(std::uint64_t x) {
  x = (x + 0x9e3779b97f4a7c15ULL) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 29)) * 0x94d049bb133111ebULL;
  return static_cast<double>((x ^ (x >> 32)) >> 11) * 0x1p-53;
}

}  // namespace

ModelConfig small_config(const std::string& position, const std::string& pattern) {
  ModelConfig config;
  config.vocab = 23;
  config.layers = 2;
  config.width = 16;
  config.heads = 4;
  config.kv_heads = 4;
  config.ffn_width = 24;
  config.max_length = 128;
  config.position.kind = position;
  config.position.own.number("scale_base") = 16;
  config.attention.pattern = pattern;
  config.attention.window = 7;
  config.attention.block = 6;
  config.attention.sinks = 2;
  return config;
}

ModelConfig landmark_config(const std::string& position) {
  ModelConfig config = small_config(position);
  config.vocab = 5;
  config.attention.normalizer = Normalizer::landmark;
  config.attention.landmark_every = 4;
  config.attention.landmark_token = 2;
  return config;
}

ModelBatch small_batch(std::int64_t sequences, std::int64_t length, std::int64_t vocab, bool documents,
                       std::int64_t sinks) {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> targets;
  std::vector<std::int64_t> starts;
  std::int64_t start = 0;
  for (std::int64_t i = 0; i < sequences * length; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    ids.push_back(static_cast<std::int32_t>(scramble(at) * static_cast<double>(vocab)));
    targets.push_back(i % 9 == 4 ? -1 : static_cast<std::int32_t>(scramble(at + 5000) * static_cast<double>(vocab)));
    if (i % length == 0) {
      start = 0;
    } else if (scramble(at + 9000) < 0.12) {
      start = i % length;
    }
    if (documents) starts.push_back(start);
  }
  return make_batch(sequences, length, std::move(ids), std::move(targets), std::move(starts), sinks);
}

SmallModel::SmallModel(const ModelConfig& config, const ModelRuntime& how, std::unique_ptr<Backend> device)
    : backend(std::move(device)), model(config, how, context, *backend) {
  std::uint64_t draw = 1;
  for (const Parameter& parameter : model.parameters()) {
    std::vector<double> values;
    const bool positive = [&] {
      for (const char* part : {"norm.weight", "position.kerple", "fire.c", "fire.threshold", "ssmax"}) {
        if (parameter.name.find(part) != std::string::npos) return true;
      }
      return false;
    }();
    const double middle = positive ? 1.0 : 0.0;
    for (std::int64_t i = 0; i < parameter.value.elements(); ++i)
      values.push_back(middle + 0.8 * (scramble(draw++) - 0.5));
    set_values(parameter, values);
  }
  model.refresh_compute();
}

void zero_gradients(Transformer& model) { model.backend().fill(model.gradients(), 0.0); }

std::vector<double> host_values(const Tensor& tensor) {
  if (tensor.dtype() == Dtype::f64) return tensor.to_host<double>();
  const std::vector<float> values = tensor.to_host<float>();
  return {values.begin(), values.end()};
}

}  // namespace lexring
