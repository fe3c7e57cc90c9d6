/// Every kernel a device must supply, forward beside backward. A new kernel breaks every backend until it is supplied.
///
/// Legend: N rows (tokens), D model width, I / O inputs / outputs of a linear layer, F feed-forward width, V
/// vocabulary. Dtypes: "working" is the dtype of activations between matrix products (f32, bf16, or f64), "residual"
/// that of the residual stream (f32, bf16 or f64), "master" that of parameters, gradients of parameters and statistics
/// (f32, or f64 with f64). All sums are accumulated in f32 or better. Outputs are overwritten unless marked +=. Inputs
/// and outputs do not overlap unless said. N may be 0. The caller (framework/ops) checks shapes; a backend may trust
/// them. `reference` supports f32 and f64, `cpu` f32 and bf16. Results are deterministic: the same inputs, number of
/// threads and model of GPU give the same bits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "framework/attention/call.h"
#include "framework/tensor/tensor.h"

namespace lexring {

enum class NormKind { layernorm, rmsnorm };
enum class Write { overwrite, accumulate };
/// u * cdf(u): exact (erf), or GPT-2's approximation u (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3))) / 2 (Hendrycks and
/// Gimpel 2016, both).
enum class Gelu { exact, tanh };

/// Of which rows a norm is: of those of [N, D] (the default), or of pieces of D columns, `of_row` of them one behind
/// the other from column `first` on, of every row of [N, W].
struct NormRows {
  std::int64_t first = 0;
  std::int64_t of_row = 1;

  std::int64_t count(const Tensor& x) const { return x.rows() * of_row; }
  /// In elements: where row n of D = `width` begins.
  std::int64_t begin(const Tensor& x, std::int64_t width, std::int64_t n) const {
    return of_row == 1 ? n * x.row_elements() + first : n / of_row * x.row_elements() + first + n % of_row * width;
  }
};

/// y = norm(s) * weight + bias with s = x + delta; layernorm subtracts the mean, rmsnorm does not (and has no bias).
struct NormForward {
  NormKind kind;
  double eps;
  Tensor x;            ///< [N, D] residual or working dtype
  Tensor delta;        ///< [N, D] working dtype; undefined: s = x
  Tensor weight;       ///< [D] master
  Tensor bias;         ///< [D] master; undefined with rmsnorm
  Tensor sum;          ///< [N, D] dtype of x: s; undefined without delta
  Tensor y;            ///< [N, D] working dtype
  Tensor mean;         ///< master, one of each row that is normalised; undefined with rmsnorm
  Tensor rstd;         ///< likewise
  NormRows rows = {};  ///< of x and y; with pieces of rows there is no delta
};

struct NormBackward {
  NormKind kind;
  Tensor dy;       ///< [N, D] working dtype
  Tensor s;        ///< [N, D] what was normalised (sum, or x)
  Tensor weight;   ///< [D] master
  Tensor mean;     ///< as forward wrote it
  Tensor rstd;     ///< likewise
  Tensor dsum;     ///< [N, D] dtype of s: gradient that reaches s by the residual stream, added to ds; undefined: none
  Tensor ds;       ///< [N, D] dtype of s; may be the same storage as dsum
  Tensor ddelta;   ///< [N, D] working dtype: a copy of ds for delta; undefined: not wanted
  Tensor dweight;  ///< [D] master, +=; undefined: not wanted
  Tensor dbias;    ///< [D] master, +=; undefined with rmsnorm, or where it is not wanted
  NormRows rows = {};  ///< of dy, s and ds; with pieces of rows there is no dsum and no ddelta
};

struct AdamW {
  double lr, beta1, beta2, eps;
  std::int64_t step;      ///< counts from 1
  double gradient_scale;  ///< multiplies gradients first (clipping)
};

struct AdamWParameter {
  Tensor value, gradient, first_moment, second_moment;  ///< [..] master
  Tensor compute;       ///< [..] working: the copy that matrix products read; undefined: none
  double weight_decay;  ///< 0 for what must not decay
};

/// What backward reads of a round of landmark attention (framework/ops/landmark_attention.h), from what the forward
/// calls told; all [N, H] master.
struct LandmarkStatistics {
  Tensor lse;             ///< of the whole
  Tensor score;           ///< of the landmark; -inf where it is not seen
  Tensor delta;           ///< of the whole
  Tensor block_delta;     ///< of the block
  Tensor block_lse;       ///< of the block; becomes lse + block_lse - score, and 0 where either is -inf
  Tensor landmark_delta;  ///< written: delta - block_delta, and 0 where the landmark is not seen
};

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  ///< of the kind of device: "cpu"
  virtual std::string describe() const = 0;   ///< for people: "cpu (avx2)"
  /// Whether products of bf16 are faster than those of f32 here: what `train.precision = auto` goes by.
  virtual bool prefers_bf16() const = 0;
  virtual Runtime& runtime() = 0;

  // ---- plain
  virtual void fill(const Tensor& x, double value) = 0;     ///< any floating dtype
  virtual void cast(const Tensor& x, const Tensor& y) = 0;  ///< y = x; any two floating dtypes
  virtual void add(const Tensor& x, const Tensor& y) = 0;   ///< y += x; dtypes may differ
  /// Over all elements of all tensors, which have one dtype; in f64. Waits for the device, once.
  virtual double sum_of_squares(std::span<const Tensor> x) = 0;
  double sum_of_squares(const Tensor& x) { return sum_of_squares(std::span(&x, 1)); }
  virtual void copy(const Columns& x, const Columns& y) = 0;  ///< y = x, [N, width] each; same dtype, no common storage

  // ---- embedding
  /// x[n] = (or +=) table[index[n]]; index [N] i32 in [0, V), or -1: a row of 0. table [V, D] master, x [N, D]
  /// residual.
  virtual void embedding(const Tensor& index, const Tensor& table, const Tensor& x, Write write) = 0;
  /// dtable[index[n]] += dx[n] where index[n] >= 0
  virtual void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) = 0;

  // ---- linear: y [N, O] = (or +=) x [N, I] w^T + b; w [O, I] working, b [O] master or undefined; y working or master
  virtual void linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y, Write write) = 0;
  void linear(const Columns& x, const Tensor& w, const Tensor& b, const Columns& y) {
    linear(x, w, b, y, Write::overwrite);
  }
  /// dx = (or +=) dy w
  virtual void linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx, Write write) = 0;
  void linear_backward_input(const Columns& dy, const Tensor& w, const Columns& dx) {
    linear_backward_input(dy, w, dx, Write::overwrite);
  }
  /// dw [O, I] += dy^T x, db [O] += column sums of dy, which then is a whole matrix; dw, db master; what is undefined
  /// is not wanted, and without dw nobody reads x
  virtual void linear_backward_weight(const Columns& dy, const Columns& x, const Tensor& dw, const Tensor& db) = 0;

  // ---- norm
  virtual void norm(const NormForward& call) = 0;
  virtual void norm_backward(const NormBackward& call) = 0;

  // ---- activations, working dtype
  virtual void gelu(Gelu kind, const Tensor& u, const Tensor& a) = 0;
  virtual void gelu_backward(Gelu kind, const Tensor& u, const Tensor& da, const Tensor& du) = 0;
  /// a [N, F] = silu(g) * u, with [g | u] = gate_up [N, 2F]
  virtual void swiglu(const Tensor& gate_up, const Tensor& a) = 0;
  virtual void swiglu_backward(const Tensor& gate_up, const Tensor& da, const Tensor& dgate_up) = 0;

  // ---- loss
  /// logits = cap * tanh(logits / cap), in place; logits [N, V] master
  virtual void soft_cap(const Tensor& logits, double cap) = 0;
  /// dlogits *= 1 - (logits / cap)^2: its adjoint, from capped logits; dlogits [N, V] working
  virtual void soft_cap_backward(const Tensor& logits, double cap, const Tensor& dlogits) = 0;
  /// nll[n] = logsumexp(logits[n]) - logits[n, target[n]] (0 where target < 0), nll [N] master. logits [N, V] master,
  /// targets [N] i32. dlogits [N, V] working, if defined: scale * (softmax - onehot), 0 rows where target < 0.
  virtual void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                             const Tensor& dlogits) = 0;

  // The same loss where a vocabulary is cut into slices: logits [N, W] are W adjacent columns, W may be 0, and targets
  // [N] i32 count from the slice's first: in [0, W) here, W or more in another slice, -1 not counted.
  /// statistics [N, 2] master: log-sum-exp of the slice's logits (-inf if there are none), and the target's logit where
  /// it is here, else 0; both 0 where not counted.
  virtual void logits_statistics(const Tensor& logits, const Tensor& targets, const Tensor& statistics) = 0;
  /// From the statistics of all S slices, [S, N, 2]: lse [N], over the whole vocabulary, and nll [N]; both 0 where not
  /// counted.
  virtual void merge_logits_statistics(const Tensor& statistics, const Tensor& targets, const Tensor& lse,
                                       const Tensor& nll) = 0;
  /// dlogits [N, W] working: scale * (exp(logits - lse) - onehot), 0 rows where not counted.
  virtual void logits_gradient(const Tensor& logits, const Tensor& targets, const Tensor& lse, double scale,
                               const Tensor& dlogits) = 0;

  // ---- attention (framework/attention/call.h)
  /// y[n, h E + e] = x[n, h E + e] * by_row[n] * by_head[h]: queries before they meet keys. x, y [N, H E] working,
  /// which may be the same columns; by_row [N] master; by_head [H] master, undefined: 1.
  virtual void scale_queries(const Columns& x, const Tensor& by_row, const Tensor& by_head, const Columns& y) = 0;
  /// sums[n, h] = before[h] + the sum over rows l <= n of log sigmoid(logits[l, h]), each as the sum of two numbers
  /// (RowTerms). logits [N, H] working; before [1, 2 H] master, undefined: 0; sums [N, 2 H] master.
  virtual void forget_sums(const Tensor& logits, const Tensor& before, const Tensor& sums) = 0;
  /// dlogits[n, h] = sigmoid(-logits[n, h]) * the sum over rows l >= n of dsums[l, h]; dsums [N, H] master, dlogits
  /// [N, H] working.
  virtual void forget_sums_backward(const Tensor& logits, const Tensor& dsums, const Tensor& dlogits) = 0;
  virtual void attention(const AttentionForward& call) = 0;
  /// delta[n, h] = sum over E of output * doutput
  virtual void attention_delta(const Tensor& output, const Tensor& doutput, const Tensor& delta) = 0;
  virtual void attention_backward(const AttentionBackward& call) = 0;
  /// whole += the block, whose values, normalised, have the weight of its landmark's score [N, H] master; nothing where
  /// that is -inf. What saw no key of the block adds 0, with that weight.
  virtual void merge_landmark(const AttentionState& block, const Tensor& score, const AttentionState& whole) = 0;
  virtual void landmark_statistics(const LandmarkStatistics& statistics) = 0;
  virtual void attention_score_sums(const AttentionScoreSums& call) = 0;

  // ---- optimizer
  /// One decoupled AdamW step of all parameters; compute copies, of one dtype, are rewritten in the same pass.
  virtual void adamw(const AdamW& hyper, std::span<const AdamWParameter> parameters) = 0;
};

/// The oracle: plain loops that a reviewer checks by hand.
std::unique_ptr<Backend> make_reference_backend();
/// What users run without a GPU: oneDNN and vectorised kernels, at the highest level of this processor (cpu_backend.h
/// has the others).
std::unique_ptr<Backend> make_cpu_backend();

}  // namespace lexring
