/// The results as text: a table for the terminal, JSON and CSV for programs.
#pragma once

#include <cstdint>
#include <string>

#include "jobs/evaluation/results.h"

namespace lexring {

/// Lengths as columns, patterns as rows: loss with its standard error, below it the paired difference to the base length; then bits per
/// byte.
std::string to_table(const EvaluationResults& results);
/// Everything that was measured, per-segment sums included. Numbers that are not finite are the strings "NaN", "Infinity", "-Infinity":
/// JSON has none.
std::string to_json(const EvaluationResults& results);
/// One line per pattern and length, with a header line. Cells that were not measured have empty fields and the reason in the last column.
std::string to_csv(const EvaluationResults& results);

/// "documents masked from each other".
std::string describe_documents(const EvaluationResults& results);
/// "1.2345", or "nan" and "inf" as they are; `plus` writes the sign of positive values too.
enum class Sign { minus_only, always };
std::string format_number(double value, int digits, Sign sign = Sign::minus_only);
/// "256 (1x)", "4,096 (16x)"; without the multiple where it is not a round one.
std::string format_length(std::int64_t length, std::int64_t train_length);
std::string with_commas(std::int64_t value);
/// "16x", "0.5x"; empty when not a multiple of a half.
std::string multiple_of(std::int64_t length, std::int64_t train_length);

}  // namespace lexring
