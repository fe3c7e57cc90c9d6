#include "jobs/launch/fewer_nodes.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "parallel/mesh.h"

namespace lexring {
namespace {

/// What a mesh must keep, whatever its size.
struct Kept {
  std::int64_t dp, cp, tp, ulysses, batch;

  /// No rank has more of a sequence than before.
  std::optional<FewerNodes> with_whole_replicas(std::int64_t ranks) const {
    if (ranks % tp != 0) return std::nullopt;
    const std::int64_t sequences = ranks / tp;  // ranks that do not share matrices
    for (std::int64_t n = std::min(dp, sequences); n >= 1; --n) {
      const std::int64_t share = sequences / n;
      const bool serves = share == cp || (cp > 1 && share > cp);
      if (sequences % n == 0 && batch % n == 0 && share % ulysses == 0 && serves) return FewerNodes{0, n, share, dp};
    }
    return std::nullopt;
  }

  std::optional<FewerNodes> with_a_smaller_replica(std::int64_t ranks) const {
    const std::int64_t share = ranks / tp;
    if (ranks % tp != 0 || share < 1 || share >= cp || share % ulysses != 0) return std::nullopt;
    return FewerNodes{0, 1, share, dp};
  }
};

}  // namespace

FewerNodes fit_fewer_nodes(const MeshKeys& keys, std::int64_t batch, const NodeCounts& counts) {
  require_usage(counts.left <= counts.planned, "{} are left of {}; there are not more of them than there were",
                counted(counts.left, "node"), counts.planned);
  const Mesh planned = make_mesh(static_cast<int>(counts.planned * counts.ranks_per_node), keys.dp, keys.cp, keys.tp,
                                 std::max<std::int64_t>(keys.ulysses, 1));
  const Kept kept{planned.size(Axis::dp), keys.cp, keys.tp, planned.ulysses, batch};
  for (const auto& fit : {&Kept::with_whole_replicas, &Kept::with_a_smaller_replica}) {
    for (std::int64_t nodes = counts.left; nodes >= 1; --nodes) {
      auto found = (kept.*fit)(nodes * counts.ranks_per_node);
      if (!found) continue;
      found->nodes = nodes;
      return *found;
    }
  }
  throw UsageError(
      fmt::format("no mesh with mesh.tp = {}{} fits {} with {} each; wait for the others, or choose smaller groups",
                  keys.tp, keys.ulysses > 1 ? fmt::format(" and mesh.ulysses = {}", keys.ulysses) : "",
                  counted(counts.left, "node"), counted(counts.ranks_per_node, "rank")));
}

}  // namespace lexring
