#include <vector>

#include "framework/backend/cpu/kernels.h"
#include "framework/backend/cpu/simd.h"
#include "framework/backend/dispatch.h"
#include "framework/base/parallel_for.h"

namespace lexring::cpu {

using namespace simd;

namespace {

/// One row: s = x + delta, its statistics, and y. The row stays in the first-level cache between the passes.
template <class X, class Y>
void norm_rows(const NormForward& call, std::int64_t first, std::int64_t last) {
  const std::int64_t width = call.weight.elements();
  const float* weight = call.weight.data<float>();
  const float* bias = call.bias.defined() ? call.bias.data<float>() : nullptr;
  const bool layer = call.kind == NormKind::layernorm;
  for (std::int64_t n = first; n < last; ++n) {
    const std::int64_t begin = call.rows.begin(call.x, width, n);
    const X* s = call.x.data<X>() + begin;
    f32v sum_v = {}, square_v = {};
    if (call.delta.defined()) {
      const Y* delta = call.delta.data<Y>() + n * width;
      X* written = call.sum.data<X>() + n * width;
      for_lanes(width,
                [&](std::int64_t i, std::int64_t m) { store(written + i, load(s + i, m) + load(delta + i, m), m); });
      s = written;
    }
    float mean = 0;
    if (layer) {
      for_lanes(width, [&](std::int64_t i, std::int64_t m) { sum_v += load(s + i, m); });
      mean = sum(sum_v) / static_cast<float>(width);
    }
    for_lanes(width, [&](std::int64_t i, std::int64_t m) {
      f32v d = load(s + i, m) - mean;
      if (m < lanes) d = lane_index() < static_cast<std::int32_t>(m) ? d : f32v{};
      square_v += d * d;
    });
    const float rstd = 1.0F / std::sqrt(sum(square_v) / static_cast<float>(width) + static_cast<float>(call.eps));
    Y* y = call.y.data<Y>() + begin;
    for_lanes(width, [&](std::int64_t i, std::int64_t m) {
      f32v out = (load(s + i, m) - mean) * rstd * load(weight + i, m);
      if (bias) out += load(bias + i, m);
      store(y + i, out, m);
    });
    if (layer) call.mean.data<float>()[n] = mean;
    call.rstd.data<float>()[n] = rstd;
  }
}

template <class X, class Y>
void norm_backward_rows(const NormBackward& call, std::int64_t first, std::int64_t last, float* dweight, float* dbias) {
  const std::int64_t width = call.weight.elements();
  const float* weight = call.weight.data<float>();
  const bool layer = call.kind == NormKind::layernorm;
  for (std::int64_t n = first; n < last; ++n) {
    const std::int64_t begin = call.rows.begin(call.s, width, n);
    const X* s = call.s.data<X>() + begin;
    const Y* dy = call.dy.data<Y>() + begin;
    const float mean = layer ? call.mean.data<float>()[n] : 0.0F, rstd = call.rstd.data<float>()[n];
    f32v dot_v = {}, sum_v = {};
    for_lanes(width, [&](std::int64_t i, std::int64_t m) {
      const f32v g = load(dy + i, m), normalised = (load(s + i, m) - mean) * rstd, gw = g * load(weight + i, m);
      dot_v += gw * normalised;
      sum_v += gw;
      store(dweight + i, load(dweight + i, m) + g * normalised, m);
      if (layer) store(dbias + i, load(dbias + i, m) + g, m);
    });
    const float dot = sum(dot_v) / static_cast<float>(width),
                average = layer ? sum(sum_v) / static_cast<float>(width) : 0.0F;
    X* ds = call.ds.data<X>() + begin;
    const X* dsum = call.dsum.defined() ? call.dsum.data<X>() + n * width : nullptr;
    Y* ddelta = call.ddelta.defined() ? call.ddelta.data<Y>() + n * width : nullptr;
    for_lanes(width, [&](std::int64_t i, std::int64_t m) {
      const f32v gw = load(dy + i, m) * load(weight + i, m), normalised = (load(s + i, m) - mean) * rstd;
      f32v d = (gw - average - normalised * dot) * rstd;
      if (dsum) d += load(dsum + i, m);
      store(ds + i, d, m);
      if (ddelta) store(ddelta + i, d, m);
    });
  }
}

}  // namespace

void norm(const NormForward& call) {
  with_types(call.x.dtype(), call.y.dtype(), [&]<class X, class Y>(Type<X>, Type<Y>) {
    parallel_for(0, call.rows.count(call.x), 16,
                 [&](std::int64_t first, std::int64_t last) { norm_rows<X, Y>(call, first, last); });
  });
}

void norm_backward(const NormBackward& call) {
  const std::int64_t rows = call.rows.count(call.s), width = call.weight.elements();
  const std::int64_t blocks =
      std::clamp<std::int64_t>(rows / 64, 1, 64);  // of rows; fixed by the shape, so sums do not depend on threads
  const Tensor partial(call.s.runtime(), {blocks, 2 * width}, Dtype::f32);
  fill(partial, 0);
  with_types(call.s.dtype(), call.dy.dtype(), [&]<class X, class Y>(Type<X>, Type<Y>) {
    parallel_tasks(blocks, [&](std::int64_t b) {
      float* sums = partial.data<float>() + b * 2 * width;
      norm_backward_rows<X, Y>(call, rows * b / blocks, rows * (b + 1) / blocks, sums, sums + width);
    });
  });
  float* dweight = call.dweight.defined() ? call.dweight.data<float>() : nullptr;
  float* dbias = call.dbias.defined() ? call.dbias.data<float>() : nullptr;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const float* sums = partial.data<float>() + b * 2 * width;
    if (dweight) {
      for (std::int64_t i = 0; i < width; ++i) dweight[i] += sums[i];
    }
    if (dbias) {
      for (std::int64_t i = 0; i < width; ++i) dbias[i] += sums[width + i];
    }
  }
}

}  // namespace lexring::cpu
