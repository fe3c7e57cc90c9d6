#include "jobs/commands/version.h"

#include <exception>

#include <fmt/format.h>

#include "framework/backend/cpu_backend.h"
#include "framework/backend/cuda_backend.h"
#include "jobs/launch/build_info.h"

namespace lexring {
namespace {

std::string cpu_text() {
  try {
    const auto levels = cpu_levels();
    std::string all;
    for (const CpuLevel level : levels) all += std::string(all.empty() ? "" : ", ") + name_of(level);
    return fmt::format("{} (this processor has {})", name_of(levels.back()), all);
  } catch (const std::exception& error) {
    return error.what();
  }
}

std::string cuda_text() {
  if (!cuda_is_built_in()) return "not built in";
  try {
    const CudaDevices devices = cuda_devices();
    if (devices.count == 0) return fmt::format("{}; no GPU here ({})", build_info.cuda, devices.why_none);
    return fmt::format("{}; {} GPU{} here", build_info.cuda, devices.count, devices.count == 1 ? "" : "s");
  } catch (const std::exception& error) {
    return fmt::format("{}; {}", build_info.cuda, error.what());
  }
}

}  // namespace

std::string version_text(const std::string& mpi) {
  return fmt::format(
      "lexring {}\n"
      "commit     {}\n"
      "build      {}\n"
      "cpu        {}\n"
      "cuda       {}\n"
      "reference  f32 and f64, for comparison\n"
      "mpi        {}\n"
      "libraries  {}\n",
      build_info.version, build_info.commit, build_info.build, cpu_text(), cuda_text(), mpi, build_info.libraries);
}

}  // namespace lexring
