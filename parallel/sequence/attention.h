/// Attention of rows that are spread over a ring of ranks: ring, halo, or whatever a Schedule says (schedule.h).
///
/// N rows of this place, H query heads, K key heads, E head width, W = K E.
///
/// Forward: own keys first, while those of the first step are under way; then each step's arrivals while the next
/// step's are. Keys and values travel as [rows, 2 W] in the working dtype; the state between calls is f32. Backward:
/// keys and values travel again. What a stop adds to their gradients is computed apart, [rows, 2 W] in f32, while what
/// stops before it added arrives; the sum goes on behind the keys, and home from the last stop. A part of the own keys
/// is kept for the end, so that there is something to compute while the last gradients come home; own keys are met some
/// thousands at a time. No more than three rounds' rows are held. Bytes: Traffic::rows x 2 W x size of the working
/// dtype forward; backward the same, and Traffic::gradients x 2 W x 4 (8 with f64).
#pragma once

#include <memory>

#include "framework/ops/attention.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/tables.h"

namespace lexring {

/// [N, H E] = attention of this place's rows [N, (H + 2K) E] (query, key, value) to those of all places they see.
/// Collective over `ring`, also for a place without rows. Adjoint: dqkv, with scores recomputed from the log-sum-exp,
/// and this place's part of the gradients of bias.by_distance and bias.sums; collective too.
Var sequence_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const SequenceTables>& tables,
                       const BiasTerms& bias, const Var& qkv);

}  // namespace lexring
