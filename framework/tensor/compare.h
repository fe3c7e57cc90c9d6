/// How far apart two tensors are. Tolerances live in tests/support/tolerances.h and, for golden cases, in the verify
/// command.
#pragma once

#include <span>

#include "framework/tensor/tensor.h"

namespace lexring {

/// ||actual - expected|| / ||expected||, norms in f64. Infinities of the same sign at the same place are equal and left
/// out; anything else that is not finite, NaN against NaN included, gives infinity: NaN equals nothing. Against an
/// expectation of 0 only 0 is right: 0 or infinity. Throws Error when the numbers of elements differ.
double relative_error(std::span<const double> actual, std::span<const double> expected);
/// The same of two tensors of one shape; dtypes (f32, bf16, f64) may differ. Throws Error when shapes differ.
double relative_error(const Tensor& actual, const Tensor& expected);

/// Host copy of a floating-point tensor.
std::vector<double> to_doubles(const Tensor& tensor);

}  // namespace lexring
