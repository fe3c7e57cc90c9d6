/// Memory of a training step, from formulas: what train.recompute = auto chooses by, and what `bench` prints beside the
/// bytes that were measured.
///
/// Bytes that the tensors of a rank hold at the peak, beside what stays between steps (values, gradients, moments). n
/// rows of a micro-batch on a place of cp, L layers; the widths of models/recompute.h, divided over tp = R. A layer
/// keeps k rows' bytes from forward to backward, as that table says. The peak is the largest of
///
///   loss        n L k + n (r D / R + 2 b D) + logits of a chunk and their gradients (framework/ops)
///   ffn         n (L - 1) k + all that the last layer keeps or has replayed + gradients r D / R of the stream and
///               b (F + the activation's width) inside
///   attention   likewise, without the feed-forward half; gradients inside: b (D + (H + 2K) E) + m (H + 2K) E; on a GPU
///               what its kernels rotate, b (H + 2K) E; on a ring two steps' remote keys with their gradients
///
/// where with R > 1 gathered rows, b D each, may be more than the gradients inside. Of one rank in fp32 to 2 percent,
/// of several to 15 (tests). In bf16 the CPU's products hold up to 16 MiB beside it. GPUs were not measured. With
/// model.parallel both halves read one stream: r D / R is kept once, and no branch. Gradients of frozen weights are
/// counted as if they were there; the few columns of adapters are not counted.
#pragma once

#include "framework/device/runtime.h"
#include "jobs/training/traffic.h"

namespace lexring {

double step_memory(const StepShape& shape, DeviceType device);

}  // namespace lexring
