/// The kernels of each level: which there are, how the processor is asked, and who makes the backend.
#pragma once

#include <memory>
#include <span>

#include "framework/backend/cpu_backend.h"

namespace lexring::cpu {

struct Level {
  CpuLevel level;
  bool (*here)();                      ///< whether this processor and its operating system have it
  std::unique_ptr<Backend> (*make)();  ///< backend.cpp, compiled for it
};

/// Lowest first: levels_x86.cpp, or levels_other.cpp.
std::span<const Level> built_levels();

}  // namespace lexring::cpu
