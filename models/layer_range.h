/// The part of a model that a process computes: some of its layers, with or without what comes before and after them (a
/// pipeline stage). A model is all of them where nobody says otherwise.
#pragma once

#include "models/config.h"

namespace lexring {

struct LayerRange {
  std::int64_t first, last;  ///< layers [first, last)
  bool embedding = true;     ///< tokens come in; else the stream that left the range before
  bool head = true;          ///< final norm, output projection and loss; else the stream goes on to the range after

  std::int64_t count() const { return last - first; }
};

inline LayerRange all_layers(const ModelConfig& config) { return {0, config.layers}; }

}  // namespace lexring
