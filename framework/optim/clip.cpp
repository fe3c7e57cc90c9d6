#include "framework/optim/clip.h"

#include <cmath>

namespace lexring {

double clip_scale(double norm, double largest) {
  if (std::isnan(norm)) return norm;
  return largest > 0 && norm > largest ? largest / norm : 1.0;
}

}  // namespace lexring
