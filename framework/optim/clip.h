/// Clipping of gradients by their global norm (Pascanu et al. 2013).
#pragma once

#include "framework/backend/backend.h"

namespace lexring {

/// L2 norm of all gradients, summed in f64. `gradients` is the flat buffer (padding is 0). Waits for the device.
double global_norm(Backend& backend, const Tensor& gradients);

/// What gradients are multiplied by so that their norm is at most `largest`; 1 when it already is, or when `largest` is
/// 0 (off). NaN stays NaN.
double clip_scale(double norm, double largest);

}  // namespace lexring
