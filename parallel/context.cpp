#include "parallel/context.h"

#include <algorithm>
#include <string>
#include <vector>

#include "framework/base/error.h"

namespace lexring {

Context::Context() : Context(make_self_communicator(), Mesh{}) {}

Context::Context(std::shared_ptr<Communicator> world, const Mesh& mesh) : mesh_(mesh), world_(std::move(world)) {
  require(mesh.ranks() == world_->size(), "a mesh of {} needs {} processes, and group {} has {}", mesh.describe(),
          mesh.ranks(), world_->name(), world_->size());
  const int rank = world_->rank();
  // Ranks of one color form a group, ordered by their world rank: which is their coordinate in it.
  const auto group = [&](std::string_view name, int size, int color) -> std::shared_ptr<Communicator> {
    if (size == 1) return world_->alone(std::string(name));
    return world_->split(std::string(name), color);
  };
  std::vector<Axis> replicating;
  for (const AxisRow& row : axis_rows) {
    axes_[static_cast<std::size_t>(row.axis)] = group(row.name, mesh.size(row.axis), mesh.group_of(rank, {row.axis}));
    if (row.replicates) replicating.push_back(row.axis);
  }
  // A group that another one equals is that one: no more communicators than a mesh needs.
  int replicas = 1;
  for (const Axis axis : replicating) replicas *= mesh.size(axis);
  for (const Axis axis : replicating) {
    if (replicas_ == nullptr && mesh.size(axis) == replicas) replicas_ = axes_[static_cast<std::size_t>(axis)];
  }
  if (replicas_ == nullptr) replicas_ = group("replicas", replicas, mesh.group_of(rank, replicating));
  const auto part_of_cp = [&](const char* name, int size, int parts, int part) {
    if (size == mesh.size(Axis::cp)) return axes_[static_cast<std::size_t>(Axis::cp)];
    return group(name, size, mesh.group_of(rank, {Axis::cp}) * parts + part);
  };
  const int place = mesh.coordinate(rank, Axis::cp);
  ring_ = part_of_cp("ring", mesh.ring(), mesh.ulysses, place % mesh.ulysses);
  ulysses_ = part_of_cp("ulysses", mesh.ulysses, mesh.ring(), place / mesh.ulysses);
}

std::vector<Communicator*> Context::groups() const {
  std::vector<Communicator*> groups;
  for (Communicator* group : {ring_.get(), ulysses_.get(), &axis(Axis::tp), replicas_.get(), &axis(Axis::dp),
                              &axis(Axis::cp), world_.get()}) {
    if (group->size() > 1 && std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  return groups;
}

}  // namespace lexring
