#include "jobs/commands/text_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "framework/base/error.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

std::vector<float> as_floats(const Tensor& logits) {
  if (logits.dtype() == Dtype::f32) return logits.to_host<float>();
  const auto values = logits.to_host<double>();
  return {values.begin(), values.end()};
}

}  // namespace

TextStream::TextStream(Transformer& model, std::int64_t chunk)
    : model_(model), landmarks_{landmark_every_of(model.config())}, chunk_(chunk), cache_(model.make_cache()) {
  require(chunk >= 1, "a stream in chunks of {} tokens is impossible", chunk);
}

std::vector<float> TextStream::read(std::span<const std::int32_t> ids,
                                    const std::function<void(std::int64_t)>& progress) {
  require(!ids.empty(), "a text goes on with at least one token");
  const std::int64_t sinks = sinks_of(model_.config()), landmark = landmark_of(model_.config());
  std::vector<std::int32_t> with_landmarks;
  if (landmark >= 0) {
    for (const std::int32_t id : ids) {
      if (landmarks_.is_landmark(length_ + static_cast<std::int64_t>(with_landmarks.size())))
        with_landmarks.push_back(static_cast<std::int32_t>(landmark));
      with_landmarks.push_back(id);
    }
    ids = with_landmarks;
  }
  for (;;) {
    const auto part = ids.first(std::min(ids.size(), static_cast<std::size_t>(chunk_)));
    ids = ids.subspan(part.size());
    const auto count = static_cast<std::int64_t>(part.size());
    const ModelBatch batch =
        make_chunk(length_, {part.begin(), part.end()}, {}, std::vector<std::int64_t>(part.size(), 0), sinks);
    const Tensor logits = model_.logits(batch, Transformer::Rows::last, cache_.get());
    length_ += count;
    if (progress) progress(count);
    if (!ids.empty()) continue;
    std::vector<float> scores = as_floats(logits);
    if (landmark >= 0) scores[static_cast<std::size_t>(landmark)] = -std::numeric_limits<float>::infinity();
    return scores;
  }
}

std::int32_t draw(const std::vector<float>& scores, double temperature, std::int64_t top_k, std::mt19937_64& random) {
  require(std::none_of(scores.begin(), scores.end(), [](float score) { return std::isnan(score); }),
          "the model's scores are not numbers; its training may have diverged: take an earlier checkpoint, or another "
          "--precision");
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = top_k > 0 ? std::min(static_cast<std::size_t>(top_k), order.size()) : order.size();
  const auto larger = [&](std::int32_t a, std::int32_t b) {
    const float x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), larger);
  if (temperature == 0) return order[0];
  order.resize(kept);
  std::vector<double> cumulative;
  double total = 0;
  for (const std::int32_t id : order) {
    total +=
        std::exp((scores[static_cast<std::size_t>(id)] - scores[static_cast<std::size_t>(order[0])]) / temperature);
    cumulative.push_back(total);
  }
  const double at = total * static_cast<double>(random() >> 11) * 0x1p-53;
  const auto found = std::upper_bound(cumulative.begin(), cumulative.end() - 1, at);
  return order[static_cast<std::size_t>(found - cumulative.begin())];
}

}  // namespace lexring
