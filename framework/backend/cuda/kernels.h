/// The CUDA backend's kernels, by family, one file per op; backend.h says what each computes. Floating dtypes are f32
/// and bf16.
///
/// Nothing here waits for the device, but `sum_of_squares`. Sums have a fixed order: the same inputs give the same
/// bits. Working memory comes from the runtime, in stream order.
#pragma once

#include "framework/backend/backend.h"
#include "framework/backend/cuda/launch.h"

namespace lexring::cuda {

class AttentionTableCache;
class FusedAttention;

/// Where kernels start.
struct Gpu {
  Stream stream;
  Runtime& runtime;
  int multiprocessors;
  AttentionTableCache& attention_tables;
  FusedAttention* fused = nullptr;  ///< null: attention is our own kernels'
  bool hopper = false;              ///< attention is the kernel for Hopper's where it computes a call (hopper/)
};

void fill(const Gpu& gpu, const Tensor& x, double value);
void cast(const Gpu& gpu, const Tensor& x, const Tensor& y);
/// Rows of y [N, W] += bias [W] f32
void add_bias(const Gpu& gpu, const Tensor& bias, const Tensor& y);
void add(const Gpu& gpu, const Tensor& x, const Tensor& y);
double sum_of_squares(const Gpu& gpu, std::span<const Tensor> x);
void copy(const Gpu& gpu, const Columns& x, const Columns& y);
void scale_queries(const Gpu& gpu, const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y);
/// sums [W] f32 += column sums of x [N, W]
void column_sums(const Gpu& gpu, const Tensor& x, const Tensor& sums);

void embedding(const Gpu& gpu, const Tensor& index, const Tensor& table, const Tensor& x, Write write);
void embedding_backward(const Gpu& gpu, const Tensor& index, const Tensor& dx, const Tensor& dtable);

void norm(const Gpu& gpu, const NormForward& call);
void norm_backward(const Gpu& gpu, const NormBackward& call);

void gelu(const Gpu& gpu, Gelu kind, const Tensor& u, const Tensor& a);
void gelu_backward(const Gpu& gpu, Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du);
void swiglu(const Gpu& gpu, const Tensor& gate_up, const Tensor& a);
void swiglu_backward(const Gpu& gpu, const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up);

void soft_cap(const Gpu& gpu, const Tensor& logits, double cap);
void soft_cap_backward(const Gpu& gpu, const Tensor& logits, double cap, const Tensor& dlogits);
void cross_entropy(const Gpu& gpu, const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                   const Tensor& dlogits);
void logits_statistics(const Gpu& gpu, const Tensor& logits, const Tensor& targets, const Tensor& statistics);
void merge_logits_statistics(const Gpu& gpu, const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                             const Tensor& nll);
void logits_gradient(const Gpu& gpu, const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                     const Tensor& dlogits);

void forget_sums(const Gpu& gpu, const Tensor& logits, const Tensor& before, const Tensor& sums);
void forget_sums_backward(const Gpu& gpu, const Tensor& logits, const Tensor& dsums, const Tensor& dlogits);
void attention(const Gpu& gpu, const AttentionForward& call);
void attention_delta(const Gpu& gpu, const Tensor& output, const Tensor& doutput, const Tensor& delta);
void attention_backward(const Gpu& gpu, const AttentionBackward& call);
void merge_landmark(const Gpu& gpu, const AttentionState& block, const Tensor& score, const AttentionState& whole);
void landmark_statistics(const Gpu& gpu, const LandmarkStatistics& statistics);
void attention_score_sums(const Gpu& gpu, const AttentionScoreSums& call);

void adamw(const Gpu& gpu, const AdamW& hyper, std::span<const AdamWParameter> parameters);

}  // namespace lexring::cuda
