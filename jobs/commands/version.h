/// `lexring --version`: what this binary is and what it computes with on this machine.
#pragma once

#include <string>

namespace lexring {

/// One fact a line: "lexring 0.1.0", "commit ...". `mpi`: what the library says of itself. Asks devices, and never
/// fails for want of one.
std::string version_text(const std::string& mpi);

}  // namespace lexring
