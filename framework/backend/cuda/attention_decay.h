/// The decay of XPOS on the device, without loss at any distance.
#pragma once

#include "framework/backend/cuda/gpu.h"

namespace lexring::cuda {

/// log2 of a decay per position, as the sum of two f32: 48 bits of it.
struct LogDecay {
  float high, low;
};

/// 2^(decay * d) of a distance d, relative error below 4e-7 for any |d| < 2^24; 0 below 2^-126. The product is taken
/// exactly (its rounding error by fma), its whole part goes into the exponent.
__device__ inline float decay_over(LogDecay decay, float d) {
  const float product = decay.high * d, error = fmaf(decay.high, d, -product) + decay.low * d;
  const float whole = rintf(product);
  if (whole < -126.0F) return 0.0F;
  const float fraction = exp2_fast((product - whole) + error);
  return fraction * __int_as_float((static_cast<int>(whole) + 127) << 23);
}

}  // namespace lexring::cuda
