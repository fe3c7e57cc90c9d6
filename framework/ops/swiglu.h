/// Gated unit of SwiGLU (Shazeer 2020).
#pragma once

#include "framework/autograd/tape.h"

namespace lexring {

/// a [N, F] = silu(g) * u with [g | u] = gate_up [N, 2F], one fused product.
Var swiglu(Tape& tape, const Var& gate_up);

}  // namespace lexring
