/// A score bias by distance, or other rows of numbers by distance, whose values are computed on the host, in f64. For a
/// million tokens and 16 heads it has 64 MB in f32, as has its gradient.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

class DistanceTable {
 public:
  /// Writes the bias at a distance, of every head.
  using Values = std::function<void(std::int64_t distance, std::span<double> bias_H)>;

  /// [heads, distances] in `dtype`, for all distances up to `longest`. The last table is given again while it is long
  /// enough and was made from the same `parameters` (what `values` reads): evaluation changes none of them. One that
  /// became too short, as it does while text is generated, is made twice as long.
  Tensor make(Runtime& runtime, std::int64_t heads, std::int64_t longest, Dtype dtype,
              const std::vector<double>& parameters, const Values& values);

 private:
  std::vector<double> parameters_;
  Tensor table_;
};

}  // namespace lexring
