/// Who writes what: tensors that several ranks hold are written by one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// Something to be written by one of its holders.
struct OwnedItem {
  std::string name;
  std::size_t bytes;
};

/// The owner, in [0, replicas), of each item: largest first, to whoever has least so far. A function of its arguments alone (ties go by
/// name, then to the lowest replica), so every rank computes the same.
std::vector<int> assign_owners(const std::vector<OwnedItem>& items, int replicas);

/// Those of `all` that replica `replica` of `replicas` writes, where every replica holds the same `all`.
std::vector<LogicalTensor> owned_tensors(const std::vector<LogicalTensor>& all, int replica, int replicas);

}  // namespace lexring
