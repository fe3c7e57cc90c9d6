/// How parameters are cut over a tensor-parallel group.
#pragma once

#include "framework/nn/parameter.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// A parameter in `shares` nearly equal slices (even_borders) along dimension `dim`. `shares` divides the size of the
/// group: each slice is held by size / shares adjacent ranks, all by one rank each where shares is the size, the whole
/// by all where it is 1.
struct Cut {
  std::size_t dim = 0;
  int shares = 1;
};

/// The part of this rank.
ParameterPart part_of(NamedShape whole, const Cut& cut, const Communicator& group);

}  // namespace lexring
