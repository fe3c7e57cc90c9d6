#include "framework/attention/bias.h"

#include <algorithm>

#include "framework/base/error.h"

namespace lexring {

void add_bias(const ScoreBias& bias, std::int64_t heads, std::span<const std::int64_t> counts, std::span<double> sums) {
  require(!bias.relative(), "a bias by relative distance has no value at a distance alone");
  double slopes = 0;  // of all heads
  for (const float slope : bias.slopes) slopes += slope;
  std::vector<double> table(static_cast<std::size_t>(bias.distances()));  // of all heads
  const auto gather = [&](const auto& values) {
    for (std::size_t i = 0; i < values.size(); ++i) table[i % table.size()] += static_cast<double>(values[i]);
  };
  if (!table.empty() && bias.by_distance.dtype() == Dtype::f64) gather(bias.by_distance.to_host<double>());
  if (!table.empty() && bias.by_distance.dtype() == Dtype::f32) gather(bias.by_distance.to_host<float>());
  for (std::size_t d = 0; d < sums.size(); ++d) {
    const double of_heads =
        (table.empty() ? 0.0 : table[std::min(d, table.size() - 1)]) - slopes * static_cast<double>(d);
    sums[d] += of_heads * static_cast<double>(counts[d]) / static_cast<double>(heads);
  }
}

}  // namespace lexring
