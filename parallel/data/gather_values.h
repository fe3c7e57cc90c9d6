/// Updated rows of parameters from their owners to everybody.
#pragma once

#include <vector>

#include "framework/backend/backend.h"
#include "parallel/comm/communicator.h"
#include "parallel/data/buckets.h"

namespace lexring {

/// Every rank has updated its own rows; afterwards all hold all that is read: the working-precision copies of what
/// products read, the master values of the rest (vectors, lookup tables, everything where the two are one). Moves n (P
/// - 1) / P values per rank. Collective.
void gather_values(Backend& backend, Communicator& replicas, const std::vector<Parameter>& parameters,
                   const std::vector<Bucket>& buckets);

}  // namespace lexring
