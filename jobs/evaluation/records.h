/// The results for programs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "jobs/evaluation/results.h"

namespace lexring {

/// Everything that was measured, sums of segments included. Numbers that are not finite, or cannot be known, are null.
std::string to_json(const EvaluationResults& results);
/// One line per series and length, with a header line. What is not finite, cannot be known, or does not belong to the
/// method is empty; a cell that was not measured has the reason in the last column.
std::string to_csv(const EvaluationResults& results);
/// The sizes that a pattern has, by name: "block", "window", "sinks".
std::vector<std::pair<const char*, std::int64_t>> sizes_of(const AttentionConfig& attention);
/// A field of CSV: quoted where it must be.
std::string csv_field(const std::string& text);

}  // namespace lexring
