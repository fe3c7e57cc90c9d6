#include "framework/optim/clip.h"

#include <cmath>

namespace lexring {

double global_norm(Backend& backend, const Tensor& gradients) { return std::sqrt(backend.sum_of_squares(gradients)); }

double clip_scale(double norm, double largest) {
  if (std::isnan(norm)) return norm;
  return largest > 0 && norm > largest ? largest / norm : 1.0;
}

}  // namespace lexring
