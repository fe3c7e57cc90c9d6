/// Initial values as functions of (seed, parameter name, global element index): the same on every mesh and in every
/// layout.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/nn/parameter.h"

namespace lexring {

/// Normal with mean 0 and this standard deviation.
void init_normal(const Parameter& parameter, std::uint64_t seed, double deviation);
/// Uniform in the interval of each row of the whole array.
void init_uniform(const Parameter& parameter, std::uint64_t seed, const std::vector<Interval>& of_rows);
/// The same value everywhere.
void init_constant(const Parameter& parameter, double value);
/// Host values in row-major order of this rank's part -> the parameter's value; count must agree.
void set_values(const Parameter& parameter, const std::vector<double>& values);

}  // namespace lexring
