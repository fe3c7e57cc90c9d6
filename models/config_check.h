/// Whether a model can be built.
#pragma once

#include "models/config.h"

namespace lexring {

/// Throws UsageError, naming the key, its value and what would work, when the model cannot be built: heads not dividing
/// width, an odd head width, block 0 with blockwise, learned positions without max_length.
void check(const ModelConfig& config);

/// Throws UsageError when text cannot come chunk by chunk: a layer's angles follow the length of the whole, or its
/// tokens see those after them.
void check_streaming(const ModelConfig& config);

}  // namespace lexring
