/// One text that a model reads and continues, chunk by chunk. Past keys and values are kept in a cache, of which only
/// what the pattern can still see stays: memory does not depend on the length of the text with window and blockwise
/// patterns, and grows with it under causal.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "datasets/landmarks.h"
#include "models/transformer.h"

namespace lexring {

class TextStream {
 public:
  /// `chunk`: most tokens of one forward pass. `model` must outlive the stream.
  TextStream(Transformer& model, std::int64_t chunk);
  /// Reads at least one token; returns the scores [V] of what may follow the last one. The text is one document, which
  /// began with the first token. A model with landmarks reads them in their places, each when the token behind it
  /// comes; none may follow: their score is -infinity. `progress` gets the places of each chunk. Collective over the
  /// model's ranks.
  std::vector<float> read(std::span<const std::int32_t> ids,
                          const std::function<void(std::int64_t)>& progress = nullptr);
  std::int64_t length() const { return length_; }  ///< places read so far: tokens, and landmarks among them
  const ModelCache& cache() const { return *cache_; }

 private:
  Transformer& model_;
  LandmarkSpacing landmarks_;
  std::int64_t chunk_, length_ = 0;
  std::unique_ptr<ModelCache> cache_;
};

/// Draws from softmax(scores / temperature) among the `top_k` largest (0, or more than there are: all); a temperature
/// of 0 takes the largest. Throws Error where a score is not a number.
std::int32_t draw(const std::vector<float>& scores, double temperature, std::int64_t top_k, std::mt19937_64& random);

}  // namespace lexring
