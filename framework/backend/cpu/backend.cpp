/// Kernels and products put together. Compiled once per level: LEXRING_CPU_LEVEL is its name, LEXRING_CPU_FACTORY the
/// one function that the rest of the program sees of it.
#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/matmul.h"
#include "framework/backend/cpu/packed_products.h"
#include "framework/backend/cpu/simd.h"

namespace lexring::cpu {
namespace {

/// Whether oneDNN's f32 products are made for this processor: they are a few per cent faster than ours then
/// (docs/results).
#if defined(__x86_64__)
constexpr bool onednn_knows_processor = true;
#else
constexpr bool onednn_knows_processor = false;
#endif

class CpuBackend final : public Backend {
 public:
  CpuBackend()
      : runtime_(make_cpu_runtime()),
        products_(*runtime_),
        multiplies_bf16_(simd::has_bf16_dot && products_.has_bf16()) {}

  std::string_view name() const override { return "cpu"; }
  std::string describe() const override { return "cpu (" LEXRING_CPU_LEVEL ")"; }
  bool prefers_bf16() const override { return multiplies_bf16_; }
  Runtime& runtime() override { return *runtime_; }

  void fill(const Tensor& x, double value) override { cpu::fill(x, value); }
  void cast(const Tensor& x, const Tensor& y) override { cpu::cast(x, y); }
  void add(const Tensor& x, const Tensor& y) override { cpu::add(x, y); }
  double sum_of_squares(std::span<const Tensor> x) override { return cpu::sum_of_squares(x); }
  void copy(const Columns& x, const Columns& y) override {
    require_same_columns(x, y);
    cpu::copy(x, y);
  }

  void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) override {
    cpu::embedding(index, table, x, write);
  }
  void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) override {
    cpu::embedding_backward(index, dx, dtable);
  }

  void linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) override {
    product(x, Layout::rows, w, Layout::columns, b, y, write == Write::accumulate);
  }
  void linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) override {
    product(dy, Layout::rows, w, Layout::rows, {}, dx, write == Write::accumulate);
  }
  void linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) override {
    if (dw.defined()) product(dy, Layout::columns, x, Layout::rows, {}, dw, true);
    if (db.defined()) cpu::column_sums(dy.matrix, db);
  }

  void norm(const NormForward& call) override { cpu::norm(call); }
  void norm_backward(const NormBackward& call) override { cpu::norm_backward(call); }

  void gelu(Gelu kind, const Tensor& u, const Tensor& a) override { cpu::gelu(kind, u, a); }
  void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) override {
    cpu::gelu_backward(kind, u, da, du);
  }
  void swiglu(const Tensor& gate_up, const Tensor& a) override { cpu::swiglu(gate_up, a); }
  void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) override {
    cpu::swiglu_backward(gate_up, da, dgate_up);
  }

  void soft_cap(const Tensor& logits, double cap) override { cpu::soft_cap(logits, cap); }
  void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) override {
    cpu::soft_cap_backward(logits, cap, dlogits);
  }
  void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                     const Tensor& dlogits) override {
    cpu::cross_entropy(logits, targets, scale, nll, dlogits);
  }
  void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) override {
    cpu::logits_statistics(logits, targets, statistics);
  }
  void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                               const Tensor& nll) override {
    cpu::merge_logits_statistics(statistics, targets, lse, nll);
  }
  void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                       const Tensor& dlogits) override {
    cpu::logits_gradient(logits, targets, lse, scale, dlogits);
  }

  void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) override {
    cpu::scale_queries(x, by_row, by_head, y);
  }
  void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) override {
    cpu::forget_sums(logits, before, sums);
  }
  void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) override {
    cpu::forget_sums_backward(logits, dsums, dlogits);
  }
  void attention(const AttentionForward& call) override { cpu::attention(call); }
  void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) override {
    cpu::attention_delta(output, doutput, delta);
  }
  void attention_backward(const AttentionBackward& call) override { cpu::attention_backward(call); }
  void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) override {
    cpu::merge_landmark(block, score, whole);
  }
  void landmark_statistics(const LandmarkStatistics& statistics) override { cpu::landmark_statistics(statistics); }
  void attention_score_sums(const AttentionScoreSums& call) override { cpu::attention_score_sums(call); }

  void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) override { cpu::adamw(hyper, parameters); }

 private:
  void product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
               const Columns& c, bool accumulate) {
    if (a.dtype() == Dtype::bf16 ? !multiplies_bf16_ : !onednn_knows_processor)
      packed_product(a, a_layout, b, b_layout, bias, c, accumulate);
    else products_.product(a, a_layout, b, b_layout, bias, c, accumulate);
  }

  std::unique_ptr<Runtime> runtime_;
  MatrixProducts products_;
  bool multiplies_bf16_;
};

}  // namespace

std::unique_ptr<Backend> LEXRING_CPU_FACTORY() { return std::make_unique<CpuBackend>(); }

}  // namespace lexring::cpu
