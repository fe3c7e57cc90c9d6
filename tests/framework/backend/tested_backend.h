/// The backend that a test program compares with the reference. Each program links one of tested_*.cpp, so that the
/// same tests run on all; the backend's name is part of the tests' names.
#pragma once

#include <memory>

#include "framework/backend/backend.h"

namespace lexring::testing {

struct TestedBackend {
  const char* name;  ///< snake_case
  std::unique_ptr<Backend> (*make)();
  bool slow = false;         ///< small problems only
  bool rounds_bias = false;  ///< a bias is rounded to the result's dtype before it is added
  bool own_f32 = true;       ///< false: in f32 it is another one of the tested backends
};

TestedBackend tested_backend();

}  // namespace lexring::testing
