#include "framework/backend/cpu/level.h"

namespace lexring::cpu {

std::unique_ptr<Backend> make_baseline_backend();

namespace {

constexpr Level levels[] = {{CpuLevel::baseline, [] { return true; }, make_baseline_backend}};

}  // namespace

std::span<const Level> built_levels() { return levels; }

}  // namespace lexring::cpu
