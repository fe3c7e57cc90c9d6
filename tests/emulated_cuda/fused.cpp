#include "tests/emulated_cuda/fused.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "framework/backend/cuda/gpu.h"

namespace lexring::cuda {
namespace {

/// Rows of one operand of one head of one entry.
template <class T>
struct Rows {
  T* first;
  std::int64_t stride;

  Rows(T* data, const FusedStrides& s, std::int64_t entry, std::int64_t head)
      : first(data + entry * s.batch + head * s.head), stride(s.row) {}
  T& operator()(std::int64_t row, std::int64_t channel) const { return first[row * stride + channel]; }
};

/// Keys that a query of this shape sees: [first, last).
struct Keys {
  std::int64_t first = 0, last;

  Keys(const FusedShape& shape, std::int64_t query) : last(shape.keys) {
    if (shape.mask == FusedMask::none) return;
    last = query + 1;
    if (shape.window > 0) first = std::max<std::int64_t>(0, last - shape.window);
  }
};

using In = Rows<const bfloat16>;
using Out = Rows<bfloat16>;

float product(const In& a, std::int64_t row, const In& b, std::int64_t other, std::int64_t width) {
  float sum = 0;
  for (std::int64_t c = 0; c < width; ++c) sum += static_cast<float>(a(row, c)) * static_cast<float>(b(other, c));
  return sum;
}

class EmulatedFused final : public FusedKernel {
 public:
  bool has_forward(const FusedShape& shape) override {
    require(shape.mask == FusedMask::none || shape.queries == shape.keys, "a causal rectangle is not square");
    return true;
  }
  bool has_backward(const FusedShape& shape) override { return has_forward(shape); }

  void forward(const Gpu& /*gpu*/, const FusedShape& s, const FusedForward& call) override {
    const emulated::Inside inside;
    std::vector<float> weights(static_cast<std::size_t>(s.keys)), sums(static_cast<std::size_t>(s.width));
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t h = 0; h < s.heads; ++h) {
        const std::int64_t kv = h / (s.heads / s.kv_heads);
        const In q(call.q, s.q, b, h), k(call.k, s.k, b, kv), v(call.v, s.v, b, kv);
        const Out output(call.output, s.output, b, h);
        for (std::int64_t n = 0; n < s.queries; ++n) {
          const Keys seen(s, n);
          float top = -std::numeric_limits<float>::infinity(), total = 0;
          for (std::int64_t m = seen.first; m < seen.last; ++m) {
            weights[static_cast<std::size_t>(m)] = static_cast<float>(s.scale) * product(q, n, k, m, s.width);
            top = std::max(top, weights[static_cast<std::size_t>(m)]);
          }
          std::fill(sums.begin(), sums.end(), 0.0F);
          for (std::int64_t m = seen.first; m < seen.last; ++m) {
            const float weight = std::exp(weights[static_cast<std::size_t>(m)] - top);
            total += weight;
            for (std::int64_t c = 0; c < s.width; ++c)
              sums[static_cast<std::size_t>(c)] += weight * static_cast<float>(v(m, c));
          }
          for (std::int64_t c = 0; c < s.width; ++c) output(n, c) = bfloat16(sums[static_cast<std::size_t>(c)] / total);
          call.lse[(b * s.heads + h) * s.queries + n] = top + std::log(total);
        }
      }
  }

  void backward(const Gpu& /*gpu*/, const FusedShape& s, const FusedBackward& call) override {
    const emulated::Inside inside;
    const auto elements = [&](std::int64_t rows, std::int64_t heads) {
      return std::vector<float>(static_cast<std::size_t>(s.batch * rows * heads * s.width), 0.0F);
    };
    std::vector<float> dq = elements(s.queries, s.heads), dk = elements(s.keys, s.kv_heads), dv = dk;
    const FusedStrides query{s.queries * s.heads * s.width, s.width, s.heads * s.width},
        key{s.keys * s.kv_heads * s.width, s.width, s.kv_heads * s.width};
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t h = 0; h < s.heads; ++h) {
        const std::int64_t kv = h / (s.heads / s.kv_heads);
        const In q(call.q, s.q, b, h), k(call.k, s.k, b, kv), v(call.v, s.v, b, kv),
            output(call.output, s.output, b, h), doutput(call.doutput, s.doutput, b, h);
        const Rows<float> dq_rows(dq.data(), query, b, h), dk_rows(dk.data(), key, b, kv),
            dv_rows(dv.data(), key, b, kv);
        for (std::int64_t n = 0; n < s.queries; ++n) {
          const float lse = call.lse[(b * s.heads + h) * s.queries + n],
                      delta = product(output, n, doutput, n, s.width);
          const Keys seen(s, n);
          for (std::int64_t m = seen.first; m < seen.last; ++m) {
            const auto scale = static_cast<float>(s.scale);
            const float weight = std::exp(scale * product(q, n, k, m, s.width) - lse),
                        dscore = scale * weight * (product(doutput, n, v, m, s.width) - delta);
            for (std::int64_t c = 0; c < s.width; ++c) {
              dq_rows(n, c) += dscore * static_cast<float>(k(m, c));
              dk_rows(m, c) += dscore * static_cast<float>(q(n, c));
              dv_rows(m, c) += weight * static_cast<float>(doutput(n, c));
            }
          }
        }
      }
    const auto round = [](const std::vector<float>& from, bfloat16* to) {
      for (std::size_t i = 0; i < from.size(); ++i) to[i] = bfloat16(from[i]);
    };
    round(dq, call.dq), round(dk, call.dk), round(dv, call.dv);
  }
};

}  // namespace

std::unique_ptr<FusedKernel> make_emulated_fused_kernel() { return std::make_unique<EmulatedFused>(); }

}  // namespace lexring::cuda
