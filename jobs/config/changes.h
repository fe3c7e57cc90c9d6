/// In which keys two configurations of one model differ, in words.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jobs/config/options.h"

namespace lexring {

struct Change {
  std::string key;
  std::string text;  ///< "optimizer.lr 0.002 -> 0.01"
};

/// All keys that differ, in the table's order, but those that say where a run is and where it came from.
std::vector<Change> changes_between(const Options& before, const Options& now);
/// One line per change that a resume makes, "optimizer.lr 0.002 -> 0.01 from step 101", `step` counting from 1. Where
/// the schedule is another, it says what becomes of the learning rate, which may jump.
std::vector<std::string> describe_changes(const Options& before, const Options& now, std::int64_t step);

}  // namespace lexring
