#include "parallel/data/row_shares.h"

#include <algorithm>
#include <tuple>

#include "parallel/comm/communicator.h"

namespace lexring {
namespace {

constexpr std::int64_t whole_below = 65536;  // elements: 256 KiB in f32, less than is worth a message of its own

}  // namespace

std::vector<std::vector<RowShare>> share_rows(const std::vector<Parameter>& parameters, int replicas) {
  require(replicas > 0, "{} replicas cannot own anything", replicas);
  std::vector<std::vector<RowShare>> shares(static_cast<std::size_t>(replicas));
  std::vector<std::size_t> small;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (element_count(parameters[i].full_shape) < whole_below) {
      small.push_back(i);
      continue;
    }
    const auto borders = even_borders(parameters[i].shape()[0], replicas);
    for (std::size_t r = 0; r < shares.size(); ++r) {
      if (borders[r] < borders[r + 1]) shares[r].push_back({i, borders[r], borders[r + 1] - borders[r]});
    }
  }
  const auto size = [&](std::size_t i) { return element_count(parameters[i].full_shape); };
  std::sort(small.begin(), small.end(), [&](std::size_t a, std::size_t b) {
    return std::forward_as_tuple(size(b), parameters[a].name) < std::forward_as_tuple(size(a), parameters[b].name);
  });
  std::vector<std::int64_t> load(shares.size(), 0);
  for (const std::size_t i : small) {
    const auto least = static_cast<std::size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    load[least] += size(i);
    if (element_count(parameters[i].shape()) > 0) shares[least].push_back({i, 0, parameters[i].shape()[0]});
  }
  for (auto& mine : shares) {
    std::sort(mine.begin(), mine.end(), [](const RowShare& a, const RowShare& b) { return a.parameter < b.parameter; });
  }
  return shares;
}

Parameter rows_of(const Parameter& parameter, const RowShare& share) {
  const auto cut = [&](const Tensor& whole) {
    return whole.defined() ? whole.slice(share.first, share.count) : Tensor();
  };
  Parameter rows = parameter;
  rows.offset[0] += share.first;
  rows.value = cut(parameter.value);
  rows.gradient = cut(parameter.gradient);
  rows.compute = cut(parameter.compute);
  return rows;
}

}  // namespace lexring
