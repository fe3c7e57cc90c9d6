#include "framework/backend/cuda/attention_bias.h"
#include "framework/backend/cuda/attention_flash.h"
#include "framework/backend/cuda/attention_plain.h"
#include "framework/backend/cuda/fused_attention.h"
#include "framework/backend/cuda/hopper/attention.h"

namespace lexring::cuda {
namespace {

template <class Call>
bool goes_flash(const Call& call) {
  return !call.row_terms.defined() && flash_supports(call.form, call.bias, call.q.dtype());
}

}  // namespace

void attention(const Gpu& gpu, const AttentionForward& call) {
  if (gpu.fused != nullptr && gpu.fused->forward(gpu, call)) return;
  if (gpu.hopper && hopper::supports(call)) return hopper::attention(gpu, call);
  if (goes_flash(call)) flash_attention(gpu, call);
  else plain_attention(gpu, call);
}

void attention_backward(const Gpu& gpu, const AttentionBackward& call) {
  if (gpu.fused != nullptr && gpu.fused->backward(gpu, call)) return;  // knows no bias
  if (goes_flash(call)) flash_attention_backward(gpu, call);
  else plain_attention_backward(gpu, call);
  if (call.dby_distance.defined()) bias_gradient(gpu, call);
}

}  // namespace lexring::cuda
