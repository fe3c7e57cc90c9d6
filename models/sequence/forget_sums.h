/// Sums of a forget gate (Forgetting Transformer; Lin et al. 2025). With F_n the sum of log sigmoid(logits) over the
/// tokens of a sequence up to n, attention adds F_n - F_m to the score of query n and key m: what the tokens after m,
/// up to n, let through. Counted in tokens, not positions; what stands before a document is in both sums.
///
/// At any length: kernels add up in f64 and keep each sum as two numbers (RowTerms), 48 bits in f32. Of sums of a
/// million, differences are exact to 4e-9, and scores to 1e-7.
///
/// N rows of the batch, n of them this rank's, H query heads.
#pragma once

#include <memory>
#include <vector>

#include "framework/autograd/tape.h"
#include "models/sequence/dealt_rows.h"

namespace lexring {

/// BiasTerms::sums [N, 2 H] of all rows of the batch, from logits [n, H] of this rank's. Its gradient is [N, H], of the
/// sum of each two: this rank's part.
///
/// `dealt`: who has which rows; null: this rank has all. Each rank then adds up everybody's logits, N H numbers beside
/// the 2 N K E of keys and values, in the order of the rows: whatever the partition, the same sums to the last bit.
/// Adjoint: dlogits, from the gradients of all ranks added up; logits are gathered again. Collective.
Var forget_sums(Tape& tape, const std::vector<TokenTable::Sequence>& sequences,
                const std::shared_ptr<const DealtRows>& dealt, const Var& logits);

}  // namespace lexring
