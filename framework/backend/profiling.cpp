#include "framework/backend/profiling.h"

#include <algorithm>
#include <chrono>
#include <type_traits>

namespace lexring {

template <class F>
auto ProfilingBackend::timed(const char* part, const char* kernel, F&& call) {
  const auto start = std::chrono::steady_clock::now();
  const auto stop = [&] {
    inner_->runtime().synchronise();
    note(part, kernel, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  };
  if constexpr (std::is_void_v<decltype(call())>) {
    call();
    stop();
  } else {
    auto result = call();
    stop();
    return result;
  }
}

void ProfilingBackend::note(const char* part, const char* kernel, double seconds) {
  auto at = std::find_if(times_.begin(), times_.end(), [&](const KernelTime& time) { return time.kernel == kernel; });
  if (at == times_.end()) at = times_.insert(at, KernelTime{part, kernel});
  ++at->calls;
  at->seconds += seconds;
}

void ProfilingBackend::fill(const Tensor& x, double value) {
  timed("other", "fill", [&] { inner_->fill(x, value); });
}

void ProfilingBackend::cast(const Tensor& x, const Tensor& y) {
  timed("other", "cast", [&] { inner_->cast(x, y); });
}

void ProfilingBackend::add(const Tensor& x, const Tensor& y) {
  timed("other", "add", [&] { inner_->add(x, y); });
}

double ProfilingBackend::sum_of_squares(std::span<const Tensor> x) {
  return timed("optimizer", "sum_of_squares", [&] { return inner_->sum_of_squares(x); });
}

void ProfilingBackend::copy(const Columns& x, const Columns& y) {
  timed("other", "copy", [&] { inner_->copy(x, y); });
}

void ProfilingBackend::embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) {
  timed("embedding", "embedding", [&] { inner_->embedding(index, table, x, write); });
}

void ProfilingBackend::embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) {
  timed("embedding", "embedding_backward", [&] { inner_->embedding_backward(index, dx, dtable); });
}

void ProfilingBackend::linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) {
  timed("matmul", "linear", [&] { inner_->linear(x, w, b, y, write); });
}

void ProfilingBackend::linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) {
  timed("matmul", "linear_backward_input", [&] { inner_->linear_backward_input(dy, w, dx, write); });
}

void ProfilingBackend::linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) {
  timed("matmul", "linear_backward_weight", [&] { inner_->linear_backward_weight(dy, x, dw, db); });
}

void ProfilingBackend::norm(const NormForward& call) {
  timed("norm", "norm", [&] { inner_->norm(call); });
}

void ProfilingBackend::norm_backward(const NormBackward& call) {
  timed("norm", "norm_backward", [&] { inner_->norm_backward(call); });
}

void ProfilingBackend::gelu(Gelu kind, const Tensor& u, const Tensor& a) {
  timed("activation", "gelu", [&] { inner_->gelu(kind, u, a); });
}

void ProfilingBackend::gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) {
  timed("activation", "gelu_backward", [&] { inner_->gelu_backward(kind, u, da, du); });
}

void ProfilingBackend::swiglu(const Tensor& gate_up, const Tensor& a) {
  timed("activation", "swiglu", [&] { inner_->swiglu(gate_up, a); });
}

void ProfilingBackend::swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) {
  timed("activation", "swiglu_backward", [&] { inner_->swiglu_backward(gate_up, da, dgate_up); });
}

void ProfilingBackend::soft_cap(const Tensor& logits, double cap) {
  timed("loss", "soft_cap", [&] { inner_->soft_cap(logits, cap); });
}

void ProfilingBackend::soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) {
  timed("loss", "soft_cap_backward", [&] { inner_->soft_cap_backward(logits, cap, dlogits); });
}

void ProfilingBackend::cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                                     const Tensor& dlogits) {
  timed("loss", "cross_entropy", [&] { inner_->cross_entropy(logits, targets, scale, nll, dlogits); });
}

void ProfilingBackend::logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) {
  timed("loss", "logits_statistics", [&] { inner_->logits_statistics(logits, targets, statistics); });
}

void ProfilingBackend::merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                                               const Tensor& nll) {
  timed("loss", "merge_logits_statistics", [&] { inner_->merge_logits_statistics(statistics, targets, lse, nll); });
}

void ProfilingBackend::logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                                       const Tensor& dlogits) {
  timed("loss", "logits_gradient", [&] { inner_->logits_gradient(logits, targets, lse, scale, dlogits); });
}

void ProfilingBackend::scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) {
  timed("attention", "scale_queries", [&] { inner_->scale_queries(x, by_row, by_head, y); });
}

void ProfilingBackend::forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) {
  timed("attention", "forget_sums", [&] { inner_->forget_sums(logits, before, sums); });
}

void ProfilingBackend::forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) {
  timed("attention", "forget_sums_backward", [&] { inner_->forget_sums_backward(logits, dsums, dlogits); });
}

void ProfilingBackend::attention(const AttentionForward& call) {
  timed("attention", "attention", [&] { inner_->attention(call); });
}

void ProfilingBackend::attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) {
  timed("attention", "attention_delta", [&] { inner_->attention_delta(output, doutput, delta); });
}

void ProfilingBackend::attention_backward(const AttentionBackward& call) {
  timed("attention", "attention_backward", [&] { inner_->attention_backward(call); });
}

void ProfilingBackend::merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) {
  timed("attention", "merge_landmark", [&] { inner_->merge_landmark(block, score, whole); });
}

void ProfilingBackend::landmark_statistics(const LandmarkStatistics& statistics) {
  timed("attention", "landmark_statistics", [&] { inner_->landmark_statistics(statistics); });
}

void ProfilingBackend::attention_score_sums(const AttentionScoreSums& call) {
  timed("attention", "attention_score_sums", [&] { inner_->attention_score_sums(call); });
}

void ProfilingBackend::adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) {
  timed("optimizer", "adamw", [&] { inner_->adamw(hyper, parameters); });
}

}  // namespace lexring
