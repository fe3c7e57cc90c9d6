/// Attention's forward pass for Hopper (H100, H200; compiled for sm_90a alone): README.md beside this says how. bf16
/// operands; scores, sums and state f32. The same inputs give the same bits. It has never run on a device.
#pragma once

#include "framework/attention/call.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda::hopper {

/// Whether the function below computes this: what flash_supports() allows, for calls that have rows and keys.
bool supports(const AttentionForward& call);

void attention(const Gpu& gpu, const AttentionForward& call);

}  // namespace lexring::cuda::hopper
