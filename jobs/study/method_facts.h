/// What a method is: its formula and whose it is, for a report's readers.
#pragma once

#include <string>
#include <vector>

#include "jobs/study/study_file.h"

namespace lexring {

struct MethodFact {
  std::string name;     ///< "xpos"
  std::string formula;  ///< in text; n: the query's position, m: the key's
  std::string source;   ///< authors, year, title
};

/// Position method, rescaling of its angles, and what multiplies scores, as far as a method has them.
std::vector<MethodFact> facts_of(const StudyMethod& method);
/// Of a rescaling, by its name in keys; the formula is empty where nothing is known.
MethodFact scaling_fact(const std::string& scaling);

}  // namespace lexring
