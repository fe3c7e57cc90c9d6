#include "parallel/mesh.h"

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

}  // namespace

int Mesh::coordinate(int rank, Axis axis) const {
  int stride = 1;
  for (int a = static_cast<int>(axis) + 1; a < static_cast<int>(sizes.size()); ++a)
    stride *= sizes[static_cast<std::size_t>(a)];
  return rank / stride % size(axis);
}

std::string Mesh::describe() const {
  const std::string factors = ulysses > 1 ? fmt::format(" (ring {} x ulysses {})", ring(), ulysses) : "";
  return fmt::format("dp {} x cp {}{} x tp {}", sizes[0], sizes[1], factors, sizes[2]);
}

Mesh make_mesh(int ranks, std::int64_t dp, std::int64_t cp, std::int64_t tp, std::int64_t ulysses) {
  require(ranks >= 1, "a mesh over {} processes", ranks);
  require_usage(dp >= 0,
                "mesh.dp = {} is negative; use 0 for what is left of the processes, or a number that divides them", dp);
  require_usage(cp >= 1, "mesh.cp = {} is not a size; use 1 or more", cp);
  require_usage(tp >= 1, "mesh.tp = {} is not a size; use 1 or more", tp);
  require_usage(cp <= ranks && tp <= ranks && ranks % (cp * tp) == 0,
                "mesh.cp = {} times mesh.tp = {} does not divide the {}; their product may be {}", cp, tp,
                counted(ranks, "process", "processes"), divisors(ranks));
  require_usage(ulysses >= 1 && cp % ulysses == 0, "mesh.ulysses = {} does not divide mesh.cp = {}; choose {}", ulysses,
                cp, divisors(static_cast<int>(cp)));
  const std::int64_t left = ranks / (cp * tp);
  require_usage(dp == 0 || dp == left,
                "mesh.dp = {} x mesh.cp = {} x mesh.tp = {} is not the {} started; use mesh.dp = {}{}", dp, cp, tp,
                counted(ranks, "process", "processes"), left,
                dp <= 1000000 ? fmt::format(", or start {}", dp * cp * tp) : "");
  return {{static_cast<int>(left), static_cast<int>(cp), static_cast<int>(tp)}, static_cast<int>(ulysses)};
}

}  // namespace lexring
