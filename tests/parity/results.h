/// Verdicts of the parity grid, gathered from all ranks, and the table of them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "tests/parity/cases.h"
#include "tests/parity/outcome.h"

namespace lexring::parity {

struct Result {
  std::size_t index = 0;  ///< of the case in its list
  Errors errors;
  std::string failure;  ///< empty: passed
};

/// One line for people.
std::string describe(const Case& which, const Result& result);

/// The cases that passed by the lines of an earlier run, cut off or not; lines of other cases are passed over.
std::vector<Result> read_passed(const std::filesystem::path& lines, const std::vector<Case>& cases);

/// Everybody's results on every rank, by index. Collective.
std::vector<Result> gather(const std::vector<Result>& mine, Communicator& world);

/// Markdown: worst errors by mesh, then by way of sharing a sequence.
void write_table(const std::filesystem::path& path, const std::vector<Case>& cases, const std::vector<Result>& results);

}  // namespace lexring::parity
