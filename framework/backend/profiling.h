/// A backend that measures another: the same kernels, with the time spent in each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/backend/backend.h"

namespace lexring {

struct KernelTime {
  std::string part;    ///< matmul attention norm activation loss embedding optimizer other
  std::string kernel;  ///< the function of Backend
  std::uint64_t calls = 0;
  double seconds = 0;
};

/// Forwards every call to `inner`, which must outlive it, waits for the device, and adds up wall time. For one thread
/// of calls.
class ProfilingBackend : public Backend {
 public:
  explicit ProfilingBackend(Backend& inner) : inner_(&inner) {}

  /// In order of first use.
  const std::vector<KernelTime>& times() const { return times_; }
  void reset() { times_.clear(); }

  std::string_view name() const override { return inner_->name(); }
  std::string describe() const override { return inner_->describe(); }
  bool prefers_bf16() const override { return inner_->prefers_bf16(); }
  Runtime& runtime() override { return inner_->runtime(); }

  void fill(const Tensor& x, double value) override;
  void cast(const Tensor& x, const Tensor& y) override;
  void add(const Tensor& x, const Tensor& y) override;
  double sum_of_squares(std::span<const Tensor> x) override;
  void copy(const Columns& x, const Columns& y) override;
  void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) override;
  void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) override;
  void linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) override;
  void linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) override;
  void linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) override;
  void norm(const NormForward& call) override;
  void norm_backward(const NormBackward& call) override;
  void gelu(Gelu kind, const Tensor& u, const Tensor& a) override;
  void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) override;
  void swiglu(const Tensor& gate_up, const Tensor& a) override;
  void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) override;
  void soft_cap(const Tensor& logits, double cap) override;
  void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) override;
  void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                     const Tensor& dlogits) override;
  void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) override;
  void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                               const Tensor& nll) override;
  void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                       const Tensor& dlogits) override;
  void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) override;
  void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) override;
  void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) override;
  void attention(const AttentionForward& call) override;
  void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) override;
  void attention_backward(const AttentionBackward& call) override;
  void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) override;
  void landmark_statistics(const LandmarkStatistics& statistics) override;
  void attention_score_sums(const AttentionScoreSums& call) override;
  void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) override;

 private:
  template <class F>
  auto timed(const char* part, const char* kernel, F&& call);
  void note(const char* part, const char* kernel, double seconds);

  Backend* inner_;
  std::vector<KernelTime> times_;
};

}  // namespace lexring
