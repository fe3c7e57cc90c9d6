/// The oracle: every kernel of backend.h as plain loops, in f32 or f64, with all sums in f64. One file per family
/// implements it. Working, residual and master dtype are one here: that of the tensors given. `fill`, `cast`, `add` and
/// `sum_of_squares` also take bf16.
#pragma once

#include "framework/backend/backend.h"

namespace lexring::reference {

class ReferenceBackend final : public Backend {
 public:
  ReferenceBackend() : runtime_(make_cpu_runtime()) {}

  std::string_view name() const override { return "reference"; }
  std::string describe() const override { return "reference"; }
  bool prefers_bf16() const override { return false; }
  Runtime& runtime() override { return *runtime_; }

  // plain.cpp
  void fill(const Tensor& x, double value) override;
  void cast(const Tensor& x, const Tensor& y) override;
  void add(const Tensor& x, const Tensor& y) override;
  double sum_of_squares(std::span<const Tensor> x) override;
  void copy(const Columns& x, const Columns& y) override;
  void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) override;
  void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) override;
  void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) override;
  // embedding.cpp
  void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) override;
  void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) override;
  // linear.cpp
  void linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) override;
  void linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) override;
  void linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) override;
  // norm.cpp
  void norm(const NormForward& call) override;
  void norm_backward(const NormBackward& call) override;
  // activation.cpp
  void gelu(Gelu kind, const Tensor& u, const Tensor& a) override;
  void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) override;
  void swiglu(const Tensor& gate_up, const Tensor& a) override;
  void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) override;
  // loss.cpp
  void soft_cap(const Tensor& logits, double cap) override;
  void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) override;
  void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                     const Tensor& dlogits) override;
  void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) override;
  void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                               const Tensor& nll) override;
  void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                       const Tensor& dlogits) override;
  // attention.cpp, attention_backward.cpp, attention_state.cpp
  void attention(const AttentionForward& call) override;
  void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) override;
  void attention_backward(const AttentionBackward& call) override;
  void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) override;
  void landmark_statistics(const LandmarkStatistics& statistics) override;
  void attention_score_sums(const AttentionScoreSums& call) override;
  // adamw.cpp
  void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) override;

 private:
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace lexring::reference
