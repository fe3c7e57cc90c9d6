/// The group of all ranks of a test that runs under mpirun (lexring_mpi_test in tests/CMakeLists.txt).
#pragma once

#include <memory>

#include "parallel/comm/communicator.h"

namespace lexring::testing {

/// Valid while tests run. Its size is what the CTest entry says.
std::shared_ptr<Communicator> world();

/// The group that tests get, of the group of all ranks: it is itself (host_world.cpp), unless a test program says
/// otherwise.
std::shared_ptr<Communicator> make_world_under_test(std::shared_ptr<Communicator> all);

}  // namespace lexring::testing
