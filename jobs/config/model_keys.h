/// The keys that say what a model is: sections model, position and attention.
#pragma once

#include <vector>

#include "jobs/config/key.h"
#include "models/config.h"

namespace lexring {

constexpr double most_tokens_at_once = 2147483647;  ///< in a sequence, and of a rank at a time

/// Bound to `model`, which must outlive them.
std::vector<Key> model_keys(ModelConfig& model);

}  // namespace lexring
