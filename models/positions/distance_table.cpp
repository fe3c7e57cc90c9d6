#include "models/positions/distance_table.h"

#include "framework/base/parallel_for.h"

namespace lexring {

namespace {

template <class T>
Tensor filled(Runtime& runtime, std::int64_t heads, std::int64_t distances, const DistanceTable::Values& values) {
  constexpr std::int64_t grain = 1024;
  std::vector<T> table(static_cast<std::size_t>(heads * distances));
  parallel_for(0, distances, grain, [&](std::int64_t first, std::int64_t last) {
    std::vector<double> bias(static_cast<std::size_t>(heads));
    for (std::int64_t d = first; d < last; ++d) {
      values(d, bias);
      for (std::size_t h = 0; h < bias.size(); ++h) {
        table[h * static_cast<std::size_t>(distances) + static_cast<std::size_t>(d)] = static_cast<T>(bias[h]);
      }
    }
  });
  return Tensor::from(runtime, {heads, distances}, table);
}

}  // namespace

Tensor DistanceTable::make(Runtime& runtime, std::int64_t heads, std::int64_t longest, Dtype dtype,
                           const std::vector<double>& parameters, const Values& values) {
  const bool same = table_.defined() && parameters == parameters_ && table_.dim(0) == heads && table_.dtype() == dtype;
  if (same && longest < table_.dim(1)) return table_;
  const std::int64_t distances = same ? 2 * (longest + 1) : longest + 1;
  table_ = dtype == Dtype::f64 ? filled<double>(runtime, heads, distances, values)
                               : filled<float>(runtime, heads, distances, values);
  parameters_ = parameters;
  return table_;
}

}  // namespace lexring
