/// fold.h on a GPU: sums in the order of the ranks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "framework/tensor/dtype.h"

struct CUstream_st;

namespace lexring {

/// own[i] = parts[0][i] + parts[1][i] + ... for `count` elements of a floating dtype; bf16 is added in f32 and rounded
/// once. parts[rank] is `own`, the others lie one after another in `others`, `stride` elements apart. Throws Error for
/// i32.
void fold_on_device(CUstream_st* stream, Dtype dtype, std::byte* own, const std::byte* others, std::int64_t stride,
                    std::int64_t count, int rank, int ranks);

}  // namespace lexring
