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

#include <functional>
#include <memory>
#include <vector>

#include "framework/ops/attention.h"
#include "parallel/comm/communicator.h"
#include "parallel/sequence/schedule.h"

namespace lexring {

/// Rotation tables of any rows; empty without rotation.
using RotaryMaker = std::function<RotaryTable(const TokenTable&)>;

/// Some of a place's rows, as keys.
struct KeyRows {
  RowSet rows;  ///< by their places among the place's rows
  SharedRows table;
};

/// What all layers of a kind share on one place of the ring, made once per batch.
struct SequenceTables {
  std::shared_ptr<const Partition> partition;
  Visibility visible;  ///< of the whole table's rows
  Schedule schedule;
  AttentionForm form;                             ///< with the heads that this rank has
  SharedRows own;                                 ///< rows of this place
  std::vector<std::vector<SharedRows>> arriving;  ///< by route and hop; null where this place does not use them
  /// Own keys in parts of some thousands, for backward: those that most queries of the place see, and the others.
  std::vector<KeyRows> earlier, later;
};
/// `visible`: of the whole table's rows. Tables of arriving rows hold 8 bytes a row for positions, and 4 E with
/// rotation: of all rows that the place's queries see.
SequenceTables make_sequence_tables(std::shared_ptr<const Partition> partition, int place, const AttentionForm& form,
                                    const Visibility& visible, Exchange exchange, const RotaryMaker& rotary);

/// [N, H E] = attention of this place's rows [N, (H + 2K) E] (query, key, value) to those of all places they see.
/// Collective over `ring`, also for a place without rows. Adjoint: dqkv, with scores recomputed from the log-sum-exp,
/// and this place's part of the gradient of bias.by_distance; collective too.
Var sequence_attention(Tape& tape, Communicator& ring, const std::shared_ptr<const SequenceTables>& tables,
                       const BiasTerms& bias, const Var& qkv);

}  // namespace lexring
