#include "framework/ops/linear_cross_entropy.h"

#include <algorithm>

namespace lexring {

std::int64_t loss_chunk_rows(std::int64_t vocab, Dtype master, DeviceType device) {
  const bool cpu = device == DeviceType::cpu;
  const std::int64_t bytes = cpu ? 4 << 20 : 512 << 20, least = cpu ? 128 : 1024;
  const std::int64_t rows = bytes / std::max<std::int64_t>(vocab * static_cast<std::int64_t>(size_of(master)), 1);
  return std::max(rows / least * least, least);
}

Tensor linear_cross_entropy(Tape& tape, const Var& h, const Weight& weight, const Tensor& targets, double scale,
                            double soft_cap) {
  const Tensor& input = h.value();
  const Tensor& w = weight.compute;
  require(input.shape().size() == 2 && input.dim(1) == w.dim(1) && input.dtype() == w.dtype() &&
              targets.elements() == input.dim(0),
          "linear_cross_entropy: h {} and targets {} do not fit W {}", to_string(input.shape()),
          to_string(targets.shape()), to_string(w.shape()));
  Backend& backend = tape.backend();
  Runtime& runtime = tape.runtime();
  const std::int64_t rows = input.dim(0);
  const std::int64_t vocab = w.dim(0);
  const Dtype master = master_dtype(input.dtype());
  const std::int64_t largest = std::min(loss_chunk_rows(vocab, master, runtime.device().type), rows);
  Tensor nll(runtime, {rows}, master);
  const Tensor logits(runtime, {largest, vocab}, master);
  const Tensor dlogits = tape.recording() ? Tensor(runtime, {largest, vocab}, input.dtype()) : Tensor();
  Tensor dh = tape.recording() ? Tensor(runtime, input.shape(), input.dtype()) : Tensor();
  for (std::int64_t first = 0; first < rows; first += largest) {
    const std::int64_t count = std::min(largest, rows - first);
    const Tensor chunk = input.slice(first, count);
    const Tensor chunk_logits = logits.slice(0, count);
    const Tensor chunk_dlogits = dlogits.defined() ? dlogits.slice(0, count) : Tensor();
    backend.linear(chunk, w, Tensor(), chunk_logits);
    if (soft_cap > 0) backend.soft_cap(chunk_logits, soft_cap);
    backend.cross_entropy(chunk_logits, targets.slice(first, count), scale, nll.slice(first, count), chunk_dlogits);
    if (!tape.recording()) continue;
    if (soft_cap > 0) backend.soft_cap_backward(chunk_logits, soft_cap, chunk_dlogits);
    backend.linear_backward_weight(chunk_dlogits, chunk, weight.gradient, Tensor());
    backend.linear_backward_input(chunk_dlogits, w, dh.slice(first, count));
  }
  tape.record([&backend, dh_slot = h.slot(), kept = tape.keep(std::move(dh))] { dh_slot.accumulate(backend, kept()); });
  return nll;
}

}  // namespace lexring
