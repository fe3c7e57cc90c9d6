/// Gaussian error linear unit, exact (Hendrycks and Gimpel 2016).
#pragma once

#include "framework/autograd/tape.h"

namespace lexring {

/// a = u (1 + erf(u / sqrt(2))) / 2
Var gelu(Tape& tape, const Var& u);

}  // namespace lexring
