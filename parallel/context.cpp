#include "parallel/context.h"

#include <string>

#include "framework/base/error.h"

namespace lexring {

Context::Context() : Context(make_self_communicator(), Mesh{}) {}

Context::Context(std::shared_ptr<Communicator> world, const Mesh& mesh) : mesh_(mesh), world_(std::move(world)) {
  require(mesh.ranks() == world_->size(), "a mesh of {} needs {} processes, and group {} has {}", mesh.describe(), mesh.ranks(),
          world_->name(), world_->size());
  for (const Axis axis : lexring::axes) {
    const std::string name(name_of(axis));
    auto& group = axes_[static_cast<std::size_t>(axis)];
    if (mesh.size(axis) == 1) {
      group = make_self_communicator(name);
      continue;
    }
    // Ranks that agree on the other two axes form a group; ordered by world rank, their rank in it is their coordinate.
    int color = 0;
    for (const Axis other : lexring::axes) {
      if (other != axis) color = color * mesh.size(other) + mesh.coordinate(world_->rank(), other);
    }
    group = world_->split(name, color);
  }
}

}  // namespace lexring
