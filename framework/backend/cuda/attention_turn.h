/// How rows of queries or keys are turned by their positions on the device: by an angle per channel pair, and scaled by
/// the decay.
#pragma once

#include "framework/attention/call.h"
#include "framework/backend/cuda/attention_decay.h"

namespace lexring::cuda {

struct Turn {
  const float *cosine, *sine;  ///< [N, pairs]; null: none
  const float* distance;       ///< [N]; null: no decay
  const LogDecay* decay;       ///< [pairs]
  int pairs;                   ///< of a head

  Turn(const RotaryTable& rotary, const Tensor& over, const Tensor& log_decay, std::int64_t head_width)
      : cosine(rotary.cosine.defined() ? rotary.cosine.data<float>() : nullptr),
        sine(rotary.sine.defined() ? rotary.sine.data<float>() : nullptr),
        distance(over.defined() ? over.data<float>() : nullptr),
        decay(over.defined() ? reinterpret_cast<const LogDecay*>(log_decay.data<float>()) : nullptr),
        pairs(static_cast<int>(head_width / 2)) {}

  /// cos and sin of a channel pair of a row, times its decay.
  __device__ Floats<2> factors(std::int64_t row, int pair) const {
    const float scale = distance != nullptr ? decay_over(decay[pair], distance[row]) : 1.0F;
    const std::int64_t at = row * pairs + pair;
    return {{scale * (cosine != nullptr ? cosine[at] : 1.0F), scale * (sine != nullptr ? sine[at] : 0.0F)}};
  }
};

}  // namespace lexring::cuda
