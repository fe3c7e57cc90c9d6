/// A local checkpoint (local_tier.h) that is newer than all in the run's directory becomes one of these, so that the
/// run goes on from it like from any other, on any mesh.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/checkpoint/local_place.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// Looks for what the run's last turn left on the nodes that are here now, the newest first: every file must be found
/// with its checksum, on its own node or on its neighbour's. The nodes that have the files copy them, and rank 0 makes
/// the checkpoint as after a save, `keep` staying. Returns lines for people, the same on every rank: what was taken,
/// and why something could not be. Throws Error where a whole one cannot be copied, for want of space say: to go on
/// without it would lose it; and where the shared directory cannot be read. The caller holds the run's lock.
/// Collective.
std::string promote_local(Communicator& world, const LocalPlace& place, std::int64_t keep);

}  // namespace lexring
