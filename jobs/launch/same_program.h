/// Whether all ranks run the same program: nodes may have another build of it, other libraries, or clocks that differ.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace lexring {

/// Build ids by file name, of this program (under the name "") and of the libraries that it has loaded. Hexadecimal;
/// what has none is left out.
std::map<std::string, std::string> loaded_builds();

/// "libdnnl.so.3": the first library that both have, in different builds; empty: none.
std::string other_library(const std::map<std::string, std::string>& builds,
                          const std::map<std::string, std::string>& others);

/// Throws UsageError that names rank and node where a rank runs another build of the program. What may matter is said
/// on rank 0, a line each: another build of a library, which may round differently; a clock that is far off.
/// Collective.
void require_same_program(Communicator& world);

}  // namespace lexring
