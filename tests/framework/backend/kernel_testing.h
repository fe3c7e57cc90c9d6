/// For tests of kernels: numbers as doubles on this side, tensors of any dtype on the backend's, and errors that one
/// number sums up.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "framework/backend/backend.h"

namespace lexring::testing {

using Values = std::vector<double>;

/// Normally distributed, a function of the seed.
Values random_values(std::int64_t count, std::uint64_t seed, double scale = 1.0);
std::vector<std::int32_t> random_indices(std::int64_t count, std::int32_t below, std::uint64_t seed);

/// The same numbers as a tensor of `dtype` can hold, so that two backends see identical inputs.
Values rounded_to(Dtype dtype, Values values);

Tensor make(Backend& backend, Shape shape, Dtype dtype, const Values& values);
/// Filled with NaN: a kernel that leaves an element out, or reads an output, is seen.
Tensor make_output(Backend& backend, Shape shape, Dtype dtype);
/// An undefined tensor gives no values.
Values read(const Tensor& tensor);

/// The larger of ||a - b|| / ||b|| and max |a - b| / max |b|; infinite when sizes differ or something is not finite on
/// one side only (equal infinities are equal). Where b is all zeros, the largest |a|.
double relative_error(const Values& a, const Values& b);
double largest_difference(const Values& a, const Values& b);

/// A function of several vectors, and the gradients of sum(doutput * output) with respect to each of them.
struct Differentiable {
  std::function<Values(const std::vector<Values>& inputs)> forward;
  std::function<std::vector<Values>(const std::vector<Values>& inputs, const Values& doutput)> backward;
};

/// Compares backward with central differences of forward for up to `probes` elements of every input.
void expect_gradients(const Differentiable& function, std::vector<Values> inputs, int probes = 40);

}  // namespace lexring::testing
