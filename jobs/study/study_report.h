/// One self-contained HTML page of a study: figures, table, cost, and what every method is. No network, no fonts, no
/// scripts; light and dark; prints.
#pragma once

#include <string>

#include "jobs/study/study_results.h"

namespace lexring {

/// `command`: what the page says it was made by.
std::string to_html(const Study& study, const StudyResults& results, const std::string& command);

}  // namespace lexring
