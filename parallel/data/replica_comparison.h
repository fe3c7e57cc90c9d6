/// Values that several ranks hold, compared by hash: what a flipped bit in one rank's memory or arithmetic changes.
///
/// Replicas (dp x cp) hold the same parameters, ranks of tp some of them; updates are the same bits on all of them, so
/// that any difference is a machine's error. What one rank alone holds (master values and moments of a sharded
/// optimizer, a tp part without replicas) has nothing to be compared with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/nn/parameter.h"
#include "parallel/context.h"

namespace lexring {

/// Memory that has the same contents on all ranks that hold this part of a parameter.
struct ReplicatedPart {
  std::string name;
  Tensor data;
  int copies = 1;  ///< as in Parameter
};

/// What each rank reads of these parameters: master values, and working copies where nothing rewrites them from master
/// values that are held here too.
std::vector<ReplicatedPart> replicated_parts(const std::vector<Parameter>& parameters);

/// Ranks that do not hold the same.
struct Drift {
  std::string name;         ///< the first part that differs
  std::vector<int> ranks;   ///< of world; those outvoted in any part, or all that hold it where nobody is
  std::vector<int> others;  ///< that hold the same part of the first one
  bool outvoted = false;    ///< more than half of its holders agree
};

/// Compares the parts: the same names, in the same order, on every rank. XXH3-64 of each; one message of 8 bytes per
/// rank and number of copies, and one more where something differs. The same answer on every rank. Collective over
/// world.
std::optional<Drift> compare_replicas(const Context& context, const std::vector<ReplicatedPart>& parts);

}  // namespace lexring
