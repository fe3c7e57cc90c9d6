/// Attention by a fused kernel of somebody else: cuDNN's on a GPU (nvidia/), plain loops in tests
/// (tests/emulated_cuda/fused.cpp). The kernel knows dense rectangles of rows only (FusedShape); FusedAttention makes a
/// call of attention of them, in both directions, behind the contract of attention/call.h.
///
/// What several rectangles say of a query is merged in f32: outputs by their log-sum-exp, gradients by addition. The
/// kernel's results are bf16 each. Backward reads the output and the log-sum-exp of all keys, so each rectangle's
/// weights and gradients are parts of the whole.
#pragma once

#include <compare>
#include <list>
#include <memory>
#include <vector>

#include "framework/backend/cuda/fused_plan.h"
#include "framework/backend/cuda/kernels.h"

namespace lexring::cuda {

/// Where rows of one operand lie, in elements; the channels of a head are adjacent.
struct FusedStrides {
  std::int64_t batch, head, row;
  auto operator<=>(const FusedStrides&) const = default;
};

/// What a kernel is made for. bf16; results of backward are [batch, rows, heads, width], contiguous, and statistics
/// [batch, heads, queries] f32.
struct FusedShape {
  std::int64_t batch, heads, kv_heads, queries, keys, width;
  FusedMask mask;
  std::int64_t window;                    ///< as in FusedCall
  double scale;                           ///< of products, before the softmax
  FusedStrides q, k, v, output, doutput;  ///< the last for backward; zeros in forward
  auto operator<=>(const FusedShape&) const = default;
};

struct FusedForward {
  const bfloat16 *q, *k, *v;
  bfloat16* output;  ///< normalised
  float* lse;        ///< natural log-sum-exp of scores
};
struct FusedBackward {
  const bfloat16 *q, *k, *v, *output, *doutput;
  const float* lse;
  bfloat16 *dq, *dk, *dv;
};

/// The same inputs give the same bits.
class FusedKernel {
 public:
  virtual ~FusedKernel() = default;
  /// Whether it computes this; asked before every use, so it remembers.
  virtual bool has_forward(const FusedShape& shape) = 0;
  virtual bool has_backward(const FusedShape& shape) = 0;
  virtual void forward(const Gpu& gpu, const FusedShape& shape, const FusedForward& call) = 0;
  virtual void backward(const Gpu& gpu, const FusedShape& shape, const FusedBackward& call) = 0;
};

/// cuDNN's. Throws UsageError where it is not built in, or not on this machine.
std::unique_ptr<FusedKernel> make_cudnn_kernel();

class FusedAttention {
 public:
  explicit FusedAttention(std::unique_ptr<FusedKernel> kernel) : kernel_(std::move(kernel)) {}

  /// False where the call is not for a fused kernel, or it has no such shape; nothing has been done then.
  bool forward(const Gpu& gpu, const AttentionForward& call);
  bool backward(const Gpu& gpu, const AttentionBackward& call);

 private:
  /// For calls whose decay is counted from `position`: distances of all rows from there, 0 on the other side of it, and
  /// of the rows' own bases, by which gradients come back to them. f32.
  struct Base {
    std::int64_t position;
    Tensor query_distance, key_distance;  ///< [N], [M]
    Tensor query_return, key_return;
  };
  struct Plan {
    std::weak_ptr<const AttentionRows> queries, keys;
    std::vector<double> log_decay;
    bool possible;
    std::vector<FusedCall> calls;
    std::vector<Base> bases;
  };
  template <class Call>
  class Inputs;

  const Plan& plan_of(const Gpu& gpu, const AttentionForm& form, const SharedRows& queries, const SharedRows& keys);

  std::unique_ptr<FusedKernel> kernel_;
  std::list<Plan> plans_;  ///< the one used last in front
};

}  // namespace lexring::cuda
