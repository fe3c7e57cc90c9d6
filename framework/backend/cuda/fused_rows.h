/// Kernels between rectangles of rows (fused_plan.h) and the rows of an attention call: merging states, adding
/// gradients.
#pragma once

#include "framework/backend/cuda/fused_plan.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

/// Rows first + i step + j, i < batch, j < count, of a matrix; those of a rectangle's one side, in its order.
struct RectangleRows {
  std::int64_t batch, first, count, step;
  std::int64_t rows() const { return batch * count; }
};

/// The state of these rows with what a rectangle found: output [rows, heads * E] bf16, normalised; lse [batch, heads,
/// count] f32.
void merge_rectangle(const Gpu& gpu, const RectangleRows& rows, const Tensor& output, const Tensor& lse,
                     const AttentionState& state);
/// output = o / l in bf16, lse = m + log l; 0 and -inf where a row saw nothing.
void finish_state(const Gpu& gpu, const AttentionState& state, const Tensor& output, const Tensor& lse);
/// Between lse [N, heads] and that of a rectangle, [batch, heads, count].
void take_lse(const Gpu& gpu, const RectangleRows& rows, const Tensor& lse, const Tensor& of_rectangle);
void put_lse(const Gpu& gpu, const RectangleRows& rows, const Tensor& of_rectangle, const Tensor& lse);
/// sum [N, heads * E] f32 += gradient [rows, heads * E] bf16, times the decay over `distance` [N] i32 (with `decay`;
/// both undefined: 1).
void add_rectangle(const Gpu& gpu, const RectangleRows& rows, const Tensor& gradient, std::int64_t heads,
                   const Tensor& distance, const Tensor& decay, const Tensor& sum);

}  // namespace lexring::cuda
