/// The mesh with one communicator per axis: built once per command (jobs/launch/mesh_setup.h), passed by reference.
/// Models ask it for an axis, never for a rank.
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/mesh.h"

namespace lexring {

class Context {
 public:
  /// One process, a mesh of 1 x 1 x 1.
  Context();
  /// Splits `world` into the axes of `mesh`. Collective.
  Context(std::shared_ptr<Communicator> world, const Mesh& mesh);

  const Mesh& mesh() const { return mesh_; }
  Communicator& world() const { return *world_; }
  Communicator& axis(Axis axis) const { return *axes_[static_cast<std::size_t>(axis)]; }
  /// dp x cp (AxisRow::replicates): the ranks that hold the same parameters, over which gradients are summed.
  Communicator& replicas() const { return *replicas_; }
  /// cp = ring x ulysses: sequences go around the ring, heads are exchanged inside ulysses.
  Communicator& ring() const { return *ring_; }
  Communicator& ulysses() const { return *ulysses_; }
  /// All of these, each once: without those of one rank.
  std::vector<Communicator*> groups() const;

 private:
  Mesh mesh_;
  std::shared_ptr<Communicator> world_;
  std::array<std::shared_ptr<Communicator>, axes.size()> axes_;  ///< by Axis
  std::shared_ptr<Communicator> replicas_, ring_, ulysses_;
};

}  // namespace lexring
