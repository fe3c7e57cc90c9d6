/// Who owns which rows of which parameter: what a rank writes to checkpoints, counts in the norm and, with a sharded
/// optimizer, updates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/nn/parameter.h"

namespace lexring {

/// Rows [first, first + count) of the part of a parameter that this process holds.
struct RowShare {
  std::size_t parameter = 0;  ///< its index
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// The shares of each of `replicas` ranks that hold the same parts, in the order of parameters, none of them empty.
/// Together they are everything, once. A parameter of 64k elements or more (of the whole array) is cut by rows, evenly;
/// a smaller one belongs to one rank, largest first, to whoever has least of them. A function of names and shapes
/// alone, so every rank computes the same; what several ranks of tp hold has the same owner in each of their groups.
std::vector<std::vector<RowShare>> share_rows(const std::vector<Parameter>& parameters, int replicas);

/// Those rows as a parameter of their own: storage is shared, the offset is moved.
Parameter rows_of(const Parameter& parameter, const RowShare& share);

}  // namespace lexring
