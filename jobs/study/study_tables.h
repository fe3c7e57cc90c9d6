/// The results of a study as tables: for the terminal, Markdown, LaTeX, and for programs.
#pragma once

#include <string>

#include "jobs/study/study_results.h"

namespace lexring {

/// Lengths as columns; a block for each pattern, in it a row for each method: the mean over seeds ± its standard
/// error, below it the paired difference to the baseline.
std::string to_table(const Study& study, const StudyResults& results);
/// The same as Markdown: the best of each column of a block in bold, and a table of what each method costs.
std::string to_markdown(const Study& study, const StudyResults& results);
/// A tabular with the rules of booktabs.
std::string to_latex(const Study& study, const StudyResults& results);
/// One line per method, pattern and length, with a header line; the value of each seed in the last column.
std::string to_csv(const Study& study, const StudyResults& results);

/// "Loss".
std::string capital(std::string text);
/// "0.0123 ± 0.0045", with the digits of the measure; with one value alone, or where there is no error, "0.0123".
std::string short_estimate(const StudyMeasure& measure, const Estimate& estimate, Sign sign = Sign::minus_only);
/// Whether no measured method of the same pattern has a better mean at this length.
bool is_best(const StudyResults& results, const StudySeries& series, const StudyCell& cell);
/// "3 seeds"; "1 to 2 of 3 seeds" where not all were evaluated yet.
std::string describe_seeds(const Study& study, const StudyResults& results);

}  // namespace lexring
