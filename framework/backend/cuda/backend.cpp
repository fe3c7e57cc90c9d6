#include "framework/backend/cuda/backend.h"

#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/cuda/fused_attention.h"
#include "framework/backend/cuda/matmul.h"

namespace lexring::cuda {
namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<Runtime> runtime, CUstream_st* stream, int multiprocessors, const CudaSettings& settings,
              std::unique_ptr<FusedKernel> fused)
      : runtime_(std::move(runtime)),
        fused_(fused ? std::make_unique<FusedAttention>(std::move(fused)) : nullptr),
        gpu_{{stream, settings.check_launches},          *runtime_, multiprocessors, attention_tables_, fused_.get(),
             settings.attention == CudaAttention::hopper},
        products_(gpu_, settings.f32) {}

  std::string_view name() const override { return "cuda"; }
  std::string describe() const override { return "cuda"; }
  bool prefers_bf16() const override { return true; }  // from sm_80 on, and older ones are refused
  Runtime& runtime() override { return *runtime_; }

  void fill(const Tensor& x, double value) override { cuda::fill(gpu_, x, value); }
  void cast(const Tensor& x, const Tensor& y) override { cuda::cast(gpu_, x, y); }
  void add(const Tensor& x, const Tensor& y) override { cuda::add(gpu_, x, y); }
  double sum_of_squares(std::span<const Tensor> x) override { return cuda::sum_of_squares(gpu_, x); }
  void copy(const Columns& x, const Columns& y) override {
    require_same_columns(x, y);
    cuda::copy(gpu_, x, y);
  }

  void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) override {
    cuda::embedding(gpu_, index, table, x, write);
  }
  void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) override {
    cuda::embedding_backward(gpu_, index, dx, dtable);
  }

  void linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) override {
    products_.product(x, Layout::rows, w, Layout::columns, b, y, write == Write::accumulate);
  }
  void linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) override {
    products_.product(dy, Layout::rows, w, Layout::rows, {}, dx, write == Write::accumulate);
  }
  void linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) override {
    if (dw.defined()) products_.product(dy, Layout::columns, x, Layout::rows, {}, dw, true);
    if (db.defined()) column_sums(gpu_, dy.matrix, db);
  }

  void norm(const NormForward& call) override { cuda::norm(gpu_, call); }
  void norm_backward(const NormBackward& call) override { cuda::norm_backward(gpu_, call); }

  void gelu(Gelu kind, const Tensor& u, const Tensor& a) override { cuda::gelu(gpu_, kind, u, a); }
  void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) override {
    cuda::gelu_backward(gpu_, kind, u, da, du);
  }
  void swiglu(const Tensor& gate_up, const Tensor& a) override { cuda::swiglu(gpu_, gate_up, a); }
  void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) override {
    cuda::swiglu_backward(gpu_, gate_up, da, dgate_up);
  }

  void soft_cap(const Tensor& logits, double cap) override { cuda::soft_cap(gpu_, logits, cap); }
  void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) override {
    cuda::soft_cap_backward(gpu_, logits, cap, dlogits);
  }
  void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                     const Tensor& dlogits) override {
    cuda::cross_entropy(gpu_, logits, targets, scale, nll, dlogits);
  }
  void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) override {
    cuda::logits_statistics(gpu_, logits, targets, statistics);
  }
  void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                               const Tensor& nll) override {
    cuda::merge_logits_statistics(gpu_, statistics, targets, lse, nll);
  }
  void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                       const Tensor& dlogits) override {
    cuda::logits_gradient(gpu_, logits, targets, lse, scale, dlogits);
  }

  void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) override {
    cuda::scale_queries(gpu_, x, by_row, by_head, y);
  }
  void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) override {
    cuda::forget_sums(gpu_, logits, before, sums);
  }
  void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) override {
    cuda::forget_sums_backward(gpu_, logits, dsums, dlogits);
  }
  void attention(const AttentionForward& call) override { cuda::attention(gpu_, call); }
  void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) override {
    cuda::attention_delta(gpu_, output, doutput, delta);
  }
  void attention_backward(const AttentionBackward& call) override { cuda::attention_backward(gpu_, call); }
  void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) override {
    cuda::merge_landmark(gpu_, block, score, whole);
  }
  void landmark_statistics(const LandmarkStatistics& statistics) override {
    cuda::landmark_statistics(gpu_, statistics);
  }
  void attention_score_sums(const AttentionScoreSums& call) override { cuda::attention_score_sums(gpu_, call); }

  void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) override {
    cuda::adamw(gpu_, hyper, parameters);
  }

 private:
  std::unique_ptr<Runtime> runtime_;
  AttentionTableCache attention_tables_;
  std::unique_ptr<FusedAttention> fused_;
  Gpu gpu_;
  MatrixProducts products_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(std::unique_ptr<Runtime> runtime, CUstream_st* stream, int multiprocessors,
                                      const CudaSettings& settings, std::unique_ptr<FusedKernel> fused) {
  return std::make_unique<CudaBackend>(std::move(runtime), stream, multiprocessors, settings, std::move(fused));
}

}  // namespace lexring::cuda
