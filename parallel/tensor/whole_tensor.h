/// Parameter-shaped arrays, whole and in the parts of the tensor-parallel ranks.
#pragma once

#include <vector>

#include "framework/nn/parameter.h"
#include "parallel/comm/communicator.h"

namespace lexring {

/// All of the array of which `part` (the parameter's value or gradient, or a moment) is this rank's piece, row-major in
/// f64, on every rank of `tp`. Pieces that several ranks hold are taken from the last of them; elements that nobody
/// holds are NaN. Collective.
std::vector<double> whole_tensor(const Parameter& parameter, const Tensor& part, Communicator& tp);

/// The inverse: of a whole array's values, those of this rank's part.
std::vector<double> own_part(const Parameter& parameter, const std::vector<double>& whole);

}  // namespace lexring
