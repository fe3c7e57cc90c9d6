#include "parallel/context.h"

#include <string>

#include "framework/base/error.h"

namespace lexring {

Context::Context() : Context(make_self_communicator(), Mesh{}) {}

Context::Context(std::shared_ptr<Communicator> world, const Mesh& mesh) : mesh_(mesh), world_(std::move(world)) {
  require(mesh.ranks() == world_->size(), "a mesh of {} needs {} processes, and group {} has {}", mesh.describe(),
          mesh.ranks(), world_->name(), world_->size());
  const auto at = [&](Axis axis) { return mesh.coordinate(world_->rank(), axis); };
  // Ranks of one color form a group, ordered by their world rank: which is their coordinate in it.
  const auto group = [&](const char* name, int size, int color) -> std::shared_ptr<Communicator> {
    if (size == 1) return world_->alone(name);
    return world_->split(name, color);
  };
  const int dp = mesh.size(Axis::dp), cp = mesh.size(Axis::cp), tp = mesh.size(Axis::tp);
  const int ring_place = at(Axis::cp) / mesh.ulysses, ulysses_place = at(Axis::cp) % mesh.ulysses;
  axes_ = {group("dp", dp, at(Axis::cp) * tp + at(Axis::tp)), group("cp", cp, at(Axis::dp) * tp + at(Axis::tp)),
           group("tp", tp, at(Axis::dp) * cp + at(Axis::cp))};
  // A group that another one equals is that one: no more communicators than a mesh needs.
  const auto or_cp = [&](int size, const char* name, int color) {
    return size == cp ? axes_[1] : group(name, size, color);
  };
  replicas_ = cp == 1 ? axes_[0] : dp == 1 ? axes_[1] : group("replicas", dp * cp, at(Axis::tp));
  ring_ = or_cp(mesh.ring(), "ring", (at(Axis::dp) * tp + at(Axis::tp)) * mesh.ulysses + ulysses_place);
  ulysses_ = or_cp(mesh.ulysses, "ulysses", (at(Axis::dp) * tp + at(Axis::tp)) * mesh.ring() + ring_place);
}

}  // namespace lexring
