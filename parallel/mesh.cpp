#include "parallel/mesh.h"

#include <cstdint>

#include <fmt/format.h>

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

}  // namespace

int Mesh::coordinate(int rank, Axis axis) const {
  int stride = 1;
  for (int a = static_cast<int>(axis) + 1; a < static_cast<int>(sizes.size()); ++a) stride *= sizes[static_cast<std::size_t>(a)];
  return rank / stride % size(axis);
}

std::string Mesh::describe() const {
  const std::string factors = ulysses > 1 ? fmt::format(" (ring {} x ulysses {})", ring(), ulysses) : "";
  return fmt::format("dp {} x cp {}{} x tp {}", sizes[0], sizes[1], factors, sizes[2]);
}

Mesh make_mesh(int ranks, int dp, int cp, int tp, int ulysses) {
  require(ranks >= 1, "a mesh over {} processes", ranks);
  require_usage(dp >= 0, "mesh.dp = {} is negative; use 0 for what is left of the processes, or a number that divides them", dp);
  require_usage(cp >= 1, "mesh.cp = {} is not a size; use 1 or more", cp);
  require_usage(tp >= 1, "mesh.tp = {} is not a size; use 1 or more", tp);
  require_usage(ulysses >= 1 && cp % ulysses == 0, "mesh.ulysses = {} does not divide mesh.cp = {}; choose {}", ulysses, cp, divisors(cp));
  const std::int64_t inner = std::int64_t{cp} * tp;
  require_usage(ranks % inner == 0,
                "mesh.cp = {} times mesh.tp = {} is {}, which does not divide the {} processes; their product may be {}", cp, tp, inner,
                ranks, divisors(ranks));
  const int left = static_cast<int>(ranks / inner);
  require_usage(dp == 0 || dp == left,
                "mesh.dp = {} x mesh.cp = {} x mesh.tp = {} is {} processes, but {} were started; use mesh.dp = {}, or start {}", dp, cp,
                tp, dp * inner, ranks, left, dp * inner);
  return {{left, cp, tp}, ulysses};
}

}  // namespace lexring
