/// The CPU backend's vectorised kernels, by family; backend.h says what each computes. Compiled for this machine's
/// vector instructions.
#pragma once

#include "framework/backend/backend.h"

namespace lexring::cpu {

void fill(const Tensor& x, double value);
void cast(const Tensor& x, const Tensor& y);
void add(const Tensor& x, const Tensor& y);
double sum_of_squares(std::span<const Tensor> x);
void copy(const Columns& x, const Columns& y);
void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y);
void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write);
void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable);
/// sums [W] f32 += column sums of x [N, W]
void column_sums(const Tensor& x, const Tensor& sums);

void norm(const NormForward& call);
void norm_backward(const NormBackward& call);

void gelu(Gelu kind, const Tensor& u, const Tensor& a);
void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du);
void swiglu(const Tensor& gate_up, const Tensor& a);
void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up);

void soft_cap(const Tensor& logits, double cap);
void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits);
void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll, const Tensor& dlogits);
void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics);
void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse, const Tensor& nll);
void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                     const Tensor& dlogits);
void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters);

void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums);
void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits);
void attention(const AttentionForward& call);
void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta);
void attention_backward(const AttentionBackward& call);
void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole);
void landmark_statistics(const LandmarkStatistics& statistics);
void attention_score_sums(const AttentionScoreSums& call);

}  // namespace lexring::cpu
