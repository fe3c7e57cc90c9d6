/// One self-contained HTML page of the scores of a task: what the numbers say, right answers by size, a heat map of
/// depths, the table. Like report.h: no network, no scripts; light, dark and print.
#pragma once

#include <string>
#include <vector>

#include "jobs/evaluation/task_evaluation.h"

namespace lexring {

std::string to_html(const TaskResults& results);

/// What a series does as texts grow, a sentence for each series and variant: "causal: 98.0 % right (89.5 to 99.6) at
/// 1,024 bytes, 12.0 % (5.6 to 23.8) at 16,384."
std::vector<std::string> sentences(const TaskResults& results);

}  // namespace lexring
