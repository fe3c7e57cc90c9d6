#include "framework/base/process_memory.h"

#include <sys/resource.h>
#include <unistd.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

namespace lexring {
namespace {

constexpr double mib = 1 << 20, unlimited = std::numeric_limits<double>::infinity();

/// The number in a file, which may say "max".
double number_in(const std::filesystem::path& file, double otherwise) {
  double value = 0;
  return std::ifstream(file) >> value ? value : otherwise;
}

/// The path of this process's control group below the root of all.
std::string control_group() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::/")) return line.substr(4);
  }
  return "";
}

/// What the narrowest of the group and those around it leaves.
double left_by_control_groups() {
  const std::filesystem::path root = "/sys/fs/cgroup";
  double left = unlimited;
  for (std::filesystem::path group = control_group(); !group.empty(); group = group.parent_path()) {
    const double limit = number_in(root / group / "memory.max", unlimited);
    left = std::min(left, limit - number_in(root / group / "memory.current", 0));
  }
  return left / mib;
}

double left_by_the_machine() {
  std::ifstream stream("/proc/meminfo");
  for (std::string word; stream >> word;) {
    double kib = 0;
    if (word == "MemAvailable:" && stream >> kib) return kib / 1024;
  }
  return 0;
}

}  // namespace

double peak_memory_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

double resident_memory_mib() {
  std::ifstream stream("/proc/self/statm");
  double total = 0, resident = 0;
  stream >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

double available_memory_mib() { return std::min(left_by_the_machine(), left_by_control_groups()); }

}  // namespace lexring
