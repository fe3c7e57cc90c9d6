#include "parallel/mesh.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

std::string divisors(int number) {
  std::string text;
  for (int d = 1; d <= number; ++d) {
    if (number % d == 0) text += fmt::format("{}{}", text.empty() ? "" : ", ", d);
  }
  return text;
}

/// `text` of every axis but those left out, one after the other.
template <class Text>
std::string joined(const char* between, const Text& text) {
  std::string all;
  for (const Axis axis : axes) {
    const std::string one = text(axis);
    if (!one.empty()) all += (all.empty() ? "" : between) + one;
  }
  return all;
}

}  // namespace

int Mesh::ranks() const { return std::accumulate(sizes.begin(), sizes.end(), 1, std::multiplies()); }

int Mesh::coordinate(int rank, Axis axis) const {
  const auto faster = sizes.begin() + static_cast<std::ptrdiff_t>(axis) + 1;
  return rank / std::accumulate(faster, sizes.end(), 1, std::multiplies()) % size(axis);
}

int Mesh::group_of(int rank, const std::vector<Axis>& within) const {
  int number = 0;
  for (const Axis axis : axes) {
    if (std::find(within.begin(), within.end(), axis) == within.end())
      number = number * size(axis) + coordinate(rank, axis);
  }
  return number;
}

std::string Mesh::describe() const {
  return joined(" x ", [&](Axis axis) {
    const bool factors = axis == Axis::cp && ulysses > 1;
    return fmt::format("{} {}{}", name_of(axis), size(axis),
                       factors ? fmt::format(" (ring {} x ulysses {})", ring(), ulysses) : "");
  });
}

Mesh make_mesh(int ranks, std::int64_t dp, std::int64_t cp, std::int64_t tp, std::int64_t ulysses) {
  const std::array<std::int64_t, axes.size()> asked = {dp, cp, tp};  // by Axis
  const auto key = [&](Axis axis) {
    return fmt::format("mesh.{} = {}", name_of(axis), asked[static_cast<std::size_t>(axis)]);
  };
  require(ranks >= 1, "a mesh over {} processes", ranks);
  require_usage(dp >= 0, "{} is negative; use 0 for what is left of the processes, or a number that divides them",
                key(Axis::dp));
  std::int64_t others = 1;  // all axes but dp; 0 where one alone is too large
  for (const Axis axis : axes) {
    const std::int64_t size = asked[static_cast<std::size_t>(axis)];
    if (axis == Axis::dp) continue;
    require_usage(size >= 1, "{} is not a size; use 1 or more", key(axis));
    others = size <= ranks && others <= ranks ? others * size : 0;
  }
  require_usage(others > 0 && ranks % others == 0, "{} does not divide the {}; their product may be {}",
                joined(" times ", [&](Axis axis) { return axis == Axis::dp ? "" : key(axis); }),
                counted(ranks, "process", "processes"), divisors(ranks));
  require_usage(ulysses >= 1 && cp % ulysses == 0, "mesh.ulysses = {} does not divide {}; choose {}", ulysses,
                key(Axis::cp), divisors(static_cast<int>(cp)));
  const std::int64_t left = ranks / others;
  require_usage(dp == 0 || dp == left, "{} is not the {} started; use mesh.dp = {}{}", joined(" x ", key),
                counted(ranks, "process", "processes"), left,
                dp <= 1000000 ? fmt::format(", or start {}", dp * others) : "");
  Mesh mesh;
  for (std::size_t i = 0; i < axes.size(); ++i) mesh.sizes[i] = static_cast<int>(asked[i]);
  mesh.sizes[static_cast<std::size_t>(Axis::dp)] = static_cast<int>(left);
  mesh.ulysses = static_cast<int>(ulysses);
  return mesh;
}

}  // namespace lexring
