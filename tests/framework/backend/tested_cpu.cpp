#include "tests/framework/backend/tested_backend.h"

namespace lexring::testing {

TestedBackend tested_backend() { return {.name = "cpu", .make = make_cpu_backend}; }

}  // namespace lexring::testing
