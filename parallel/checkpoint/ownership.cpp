#include "parallel/checkpoint/ownership.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace lexring {

std::vector<int> assign_owners(const std::vector<OwnedItem>& items, int replicas) {
  require(replicas > 0, "checkpoint: {} replicas cannot own anything", replicas);
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(items[b].bytes, items[a].name, a) < std::tie(items[a].bytes, items[b].name, b);
  });
  std::vector<std::size_t> load(static_cast<std::size_t>(replicas), 0);
  std::vector<int> owners(items.size());
  for (std::size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += items[i].bytes;
    owners[i] = static_cast<int>(least - load.begin());
  }
  return owners;
}

std::vector<LogicalTensor> owned_tensors(const std::vector<LogicalTensor>& all, int replica, int replicas) {
  std::vector<OwnedItem> items;
  for (const LogicalTensor& tensor : all) items.push_back({tensor.name, tensor.data.bytes()});
  const std::vector<int> owners = assign_owners(items, replicas);
  std::vector<LogicalTensor> mine;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (owners[i] == replica) mine.push_back(all[i]);
  }
  return mine;
}

}  // namespace lexring
