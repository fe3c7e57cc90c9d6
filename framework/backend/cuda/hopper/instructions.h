/// What kernels for Hopper are written in beside gpu.h: transaction barriers, bulk tensor copies, products of a
/// warpgroup (wgmma), named barriers. On a GPU they are PTX (nvidia/hopper.h; sm_90a alone has them, so sources that
/// include this are compiled for nothing else), in tests they are emulated (tests/emulated_cuda/emulated_hopper.h).
///
/// A warpgroup is 4 warps from a multiple of 4 on. Its product has 64 rows; lane l of warp w holds of the sums d[j][i]:
/// row 16 w + l / 4 (i < 2) or 8 below, column 8 j + 2 (l % 4) + i % 2: the same as four warps' mma (gpu.h), and left
/// operands in registers likewise.
///
/// Copies and products are of the asynchronous proxy. What threads have written to shared memory themselves it may not
/// see, nor a barrier that they initialised, unless each of them calls fence_async_proxy() and a barrier follows.
#pragma once

#include "framework/backend/cuda/gpu.h"
#include "framework/backend/cuda/hopper/shared_tile.h"
#include "framework/backend/cuda/hopper/tensor_map.h"

#ifdef __CUDACC__
#include "framework/backend/cuda/nvidia/hopper.h"
#else
#include <emulated_hopper.h>  // of tests/emulated_cuda, as gpu.h says
#endif

namespace lexring::cuda::hopper {

/// A place in a ring of buffers, and the parity of the phase in which its barriers are. Whoever fills waits for the
/// phase before: on fresh barriers that has passed.
template <int stages>
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;

  __device__ void next() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

}  // namespace lexring::cuda::hopper
