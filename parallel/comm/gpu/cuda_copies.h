/// SideCopies of a CUDA device.
#pragma once

#include <memory>

#include "parallel/comm/gpu/side_copies.h"

struct CUstream_st;

namespace lexring {

/// `stream` is the runtime's, of device `index`, and outlives them.
std::unique_ptr<SideCopies> make_cuda_copies(CUstream_st* stream, int index);

}  // namespace lexring
