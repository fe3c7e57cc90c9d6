/// Query heads of one layer that attend by different patterns: pieces of a rank's heads, taken out of the fused
/// projections and put together again.
///
/// N rows, H query heads, K key heads, E head width.
#pragma once

#include <vector>

#include "framework/autograd/tape.h"
#include "parallel/heads.h"

namespace lexring {

/// The heads of `form` cut at query head `border` (which may lie outside): pieces of which each key head is read by as
/// many query heads. A key head that is read from both sides of the border is in two pieces.
std::vector<HeadShare> head_pieces(const AttentionForm& form, std::int64_t border);

/// The projections [N, (h + 2k) E] of a piece, of those of all heads. Adjoint: their gradient, 0 for other heads.
Var take_heads(Tape& tape, const AttentionForm& form, const HeadShare& piece, const Var& qkv);
/// [N, H E] from the attended values [N, h E] of each piece. Adjoint: the way back.
Var join_heads(Tape& tape, const AttentionForm& form, const std::vector<HeadShare>& pieces,
               const std::vector<Var>& attended);

}  // namespace lexring
