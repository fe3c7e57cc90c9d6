/// Attention for every even head width up to 256 and every alignment, in f32 on ordinary cores: the path of f32, and of
/// what the flash kernels leave.
#pragma once

#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

inline constexpr std::int64_t widest_plain_head = 256;

void plain_attention(const Gpu& gpu, const AttentionForward& call);
void plain_attention_backward(const Gpu& gpu, const AttentionBackward& call);

}  // namespace lexring::cuda
