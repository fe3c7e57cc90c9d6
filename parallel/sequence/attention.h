/// Attention of rows that are spread over a ring of ranks: ring, halo, or whatever a Schedule says (schedule.h).
///
/// N rows of this place, H query heads, K key heads, E head width, W = K E.
///
/// Forward: own keys first, while those of the first step are under way; then each step's arrivals while the next
/// step's are. Keys and values travel as [rows, 2 W] in the working dtype; the state between blocks is f32. Backward:
/// keys and values travel again. What a stop adds to their gradients is computed apart, [rows, 2 W] in f32, while what
/// stops before it added arrives; the sum goes on behind the keys, and home from the last stop. A part of the own keys
/// is kept for the end, so that there is something to compute while the last gradients come home; own keys are met some
/// thousands at a time. No more than three rounds' rows are held. Bytes: Traffic::rows x 2 W x size of the working
/// dtype forward; backward the same, and Traffic::gradients x 2 W x 4 (8 with f64).
#pragma once

#include <functional>
#include <memory>

#include "framework/ops/attention.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

/// Rotation tables of arriving keys; made anew at every use, so that nobody holds tables of the whole sequence.
using RotaryMaker = std::function<RotaryTable(const TokenTable&)>;

/// What all layers of a pass share on one place of the ring.
struct SequenceTables {
  Partition partition;
  Schedule schedule;
  AttentionTables own;  ///< specification (with the heads that this rank has), rows of this place
  RotaryMaker rotary;   ///< of any rows; empty without rotation
};

/// [N, H E] = attention of this place's rows [N, (H + 2K) E] (query, key, value) to those of all places they see.
/// Collective over `ring`, also for a place without rows. Adjoint: dqkv, with scores recomputed from the log-sum-exp;
/// collective too.
Var sequence_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const SequenceTables>& tables,
                       const Var& qkv);

}  // namespace lexring
