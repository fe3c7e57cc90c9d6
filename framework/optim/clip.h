/// Clipping of gradients by their global norm (Pascanu et al. 2013).
#pragma once

namespace lexring {

/// What gradients are multiplied by so that their norm is at most `largest`; 1 when it already is, or when `largest` is
/// 0 (off). NaN stays NaN.
double clip_scale(double norm, double largest);

}  // namespace lexring
