/// The results as a table for the terminal, and how numbers are written for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/evaluation/results.h"

namespace lexring {

/// Lengths as columns, series as rows: loss with its standard error, below it the paired difference to the base length;
/// then bits per byte, perplexity, speed.
std::string to_table(const EvaluationResults& results);

/// One line of a table: its name, and a text for each column.
struct TableLine {
  std::string name;
  std::vector<std::string> texts;
};
/// The lines, as many of `columns` beside each other as fit.
std::string aligned(const std::vector<TableLine>& lines, std::size_t columns);
/// A line for each: where it is from, what it is, what it is computed in.
std::string describe_models(const std::vector<MeasuredModel>& models);
/// "documents masked from each other".
std::string describe_documents(const EvaluationResults& results);
/// "rope, yarn by length / 256, at least 1; blockwise, block 128".
std::string describe(const Series& series);

/// "1.2345", or "nan" and "inf" as they are; `plus` writes the sign of positive values too.
enum class Sign { minus_only, always };
std::string format_number(double value, int digits, Sign sign = Sign::minus_only);
/// "+0.0012 ± 0.0004"; at least four digits, and as many as show the error; "1.2345 ± –" where the error cannot be
/// known.
std::string with_error(const Estimate& estimate, Sign sign = Sign::minus_only);
/// "256 (1x)", "4,096 (16x)"; without the multiple where it is not a round one.
std::string format_length(std::int64_t length, std::int64_t train_length);
std::string with_commas(std::int64_t value);
/// "1 document", "2,000 documents".
std::string counted_with_commas(std::int64_t count, std::string_view thing);
/// "16x", "0.5x"; empty when not a multiple of a half.
std::string multiple_of(std::int64_t length, std::int64_t train_length);

}  // namespace lexring
