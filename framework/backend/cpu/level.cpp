#include "framework/backend/cpu/level.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "framework/backend/cpu/matmul.h"

namespace lexring {
namespace {

std::vector<std::string> names(std::span<const cpu::Level> levels) {
  std::vector<std::string> all;
  for (const cpu::Level& level : levels) all.emplace_back(name_of(level.level));
  return all;
}

}  // namespace

std::vector<CpuLevel> cpu_levels() {
  std::vector<CpuLevel> here;
  for (const cpu::Level& level : cpu::built_levels()) {
    if (level.here()) here.push_back(level.level);
  }
  require_usage(
      !here.empty(),
      "this processor is older than the CPU kernels of this binary ({}); --device reference computes on it, slowly",
      fmt::join(names(cpu::built_levels()), ", "));
  return here;
}

std::unique_ptr<Backend> make_cpu_backend(CpuLevel level) {
  const std::vector<CpuLevel> here = cpu_levels();
  const auto levels = cpu::built_levels();
  const auto found =
      std::find_if(levels.begin(), levels.end(), [&](const cpu::Level& each) { return each.level == level; });
  require_usage(found != levels.end(), "this binary has no CPU kernels '{}'; choose auto, {}", name_of(level),
                fmt::join(names(levels), ", "));
  require_usage(std::find(here.begin(), here.end(), level) != here.end(),
                "this machine has no {} instructions, only {}; choose cpu.isa = auto or {}", name_of(level),
                name_of(here.back()), name_of(here.back()));
  if (level != here.back()) cpu::limit_matrix_products(level);
  return found->make();
}

std::unique_ptr<Backend> make_cpu_backend() { return make_cpu_backend(cpu_levels().back()); }

}  // namespace lexring
