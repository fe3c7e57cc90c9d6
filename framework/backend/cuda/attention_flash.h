/// Attention on tensor cores: bf16 operands, f32 scores, sums and state. Scores never leave the multiprocessor.
///
/// Heads are padded to 32, 64, 96 or 128 channels. Everything else is supported but a bias by distance, row terms,
/// caps, clamps, ReLU and mirrored decay (key tiles are met in the order in which decay falls): rotation, decay,
/// slopes, any visibility, grouped heads, states between calls. The same inputs give the same bits.
#pragma once

#include "framework/attention/call.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

/// Whether the functions below compute this; `working` is the dtype of q, k and v.
bool flash_supports(const AttentionForm& form, const ScoreBias& bias, Dtype working);

void flash_attention(const Gpu& gpu, const AttentionForward& call);
void flash_attention_backward(const Gpu& gpu, const AttentionBackward& call);

}  // namespace lexring::cuda
