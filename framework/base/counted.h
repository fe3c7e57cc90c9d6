/// Numbers for people: "1 step", "2 steps".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace lexring {

/// A number and what it counts; `plural` where an s does not make it.
inline std::string counted(std::int64_t number, std::string_view one, std::string_view plural = "") {
  if (number == 1) return fmt::format("1 {}", one);
  return plural.empty() ? fmt::format("{} {}s", number, one) : fmt::format("{} {}", number, plural);
}

}  // namespace lexring
