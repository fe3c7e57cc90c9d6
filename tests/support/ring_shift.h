/// A message to the next rank of a group and one from the rank before, around: what tests have under way.
#pragma once

#include "parallel/comm/communicator.h"

namespace lexring::testing {

/// `outgoing` to rank + 1, `incoming` from rank - 1.
[[nodiscard]] inline Pending start_ring_shift(Communicator& group, std::span<const std::byte> outgoing,
                                              std::span<std::byte> incoming) {
  const int rank = group.rank(), size = group.size();
  return group.start_exchange({{(rank + 1) % size, outgoing}}, {{(rank + size - 1) % size, incoming}});
}

}  // namespace lexring::testing
