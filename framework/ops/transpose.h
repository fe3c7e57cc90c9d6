/// Rows become columns.
#pragma once

#include "framework/autograd/tape.h"

namespace lexring {

/// [M, N] from x [N, M], of any floating dtype: one copy for each of M columns, so meant for few. Adjoint: the same way
/// back.
Var transpose(Tape& tape, const Var& x);

}  // namespace lexring
