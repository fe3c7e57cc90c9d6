/// Gaussian error linear unit (Hendrycks and Gimpel 2016).
#pragma once

#include "framework/autograd/tape.h"

namespace lexring {

/// a = u (1 + erf(u / sqrt(2))) / 2, or its approximation by tanh (framework/backend/backend.h: Gelu)
Var gelu(Tape& tape, const Var& u, Gelu kind = Gelu::exact);

}  // namespace lexring
