/// Element-wise reductions in the order of the ranks: the bits depend on the parts alone.
#pragma once

#include <cstddef>
#include <span>

#include "framework/tensor/dtype.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// to[i] = parts[0][i] o parts[1][i] o ...; every part has as many bytes as `to`, which may be one of them.
using Fold = void (*)(std::span<std::byte> to, std::span<const std::byte* const> parts);

/// The sum of a floating dtype; bf16 is added in f32 and rounded once. Throws Error for i32.
Fold sum_of(Dtype dtype);

/// T is float, double or std::int64_t. A max or min over NaN is NaN.
template <class T>
Fold fold_of(Reduce op);

}  // namespace lexring
