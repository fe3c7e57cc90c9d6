/// Numbers for people: "1 step", "2 steps".
#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include <fmt/core.h>

namespace lexring {

/// What is counted, in the form that goes with the number: "step" with 1, "steps" and "processes" with others; `plural`
/// where neither an s nor, after an s, an es makes it.
std::string noun(std::integral auto number, std::string_view one, std::string_view plural = "") {
  if (number == 1) return std::string(one);
  return plural.empty() ? fmt::format("{}{}", one, one.ends_with('s') ? "es" : "s") : std::string(plural);
}

/// A number and what it counts.
std::string counted(std::integral auto number, std::string_view one, std::string_view plural = "") {
  return fmt::format("{} {}", number, noun(number, one, plural));
}

}  // namespace lexring
