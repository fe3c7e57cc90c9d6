/// The gradient of the bias by distance, beside either family of attention kernels: scores are computed once more, so
/// that no other kernel carries it. The same inputs give the same bits.
#pragma once

#include "framework/attention/call.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

/// call.dby_distance += what this call's scores say; the bias must have a table.
void bias_gradient(const Gpu& gpu, const AttentionBackward& call);

}  // namespace lexring::cuda
