/// The group of all ranks of a test that runs under mpirun (lexring_mpi_test in tests/CMakeLists.txt).
#pragma once

#include <memory>

#include "parallel/comm/communicator.h"

namespace lexring::testing {

/// Valid while tests run. Its size is what the CTest entry says.
std::shared_ptr<Communicator> world();

}  // namespace lexring::testing
