/// What attention over a ring needs to know of a batch: rows of this place and of those that it hears from, and the
/// schedule of messages.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "framework/ops/attention.h"
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
  AttentionParts parts;                           ///< of this place's queries
  SharedRows own;                                 ///< rows of this place, as keys
  std::vector<std::vector<SharedRows>> arriving;  ///< by route and hop; null where this place does not use them
  /// Own keys in parts of some thousands, for backward: those that most queries of the place see, and the others.
  std::vector<KeyRows> earlier, later;
};
/// `visible`: of the whole table's rows, what `parts` let them see together. Tables of arriving rows hold 8 bytes a row
/// for positions, and 4 E with rotation: of all rows that the place's queries see.
SequenceTables make_sequence_tables(std::shared_ptr<const Partition> partition, int place, const Visibility& visible,
                                    const std::vector<PartPlan>& parts, Exchange exchange, const RotaryMaker& rotary);

}  // namespace lexring
