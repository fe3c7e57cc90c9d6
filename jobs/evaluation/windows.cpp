#include "jobs/evaluation/windows.h"

#include <algorithm>
#include <utility>

#include "models/layer_configs.h"

namespace lexring {
namespace {

std::vector<double> losses(const Tensor& nll) {
  if (nll.dtype() == Dtype::f64) return nll.to_host<double>();
  const auto values = nll.to_host<float>();
  return {values.begin(), values.end()};
}

}  // namespace

void Windows::together(std::int64_t first, std::int64_t count, WindowSums& sums, const AttentionProbe& probe) {
  TokenBatch read = read_windows(dataset_, first * length_, count, length_, stream_.documents);
  ModelBatch batch = make_batch(count, length_, std::move(read.tokens), std::move(read.targets),
                                std::move(read.document_start), sinks_of(model_.config()));
  if (stream_.masking) stream_.masking->hide_tokens(batch, first * length_);
  const std::vector<double> nll = losses(model_.evaluate(batch, nullptr, probe).nll);
  for (std::int64_t w = 0; w < count; ++w) {
    sums.add((first + w) * length_, 0, nll.data() + w * length_, batch.targets.data() + w * length_, length_);
  }
}

void Windows::streamed(std::int64_t window, WindowSums& sums, const std::function<void()>& before,
                       const std::function<void(std::int64_t)>& progress) {
  const auto cache = model_.make_cache();
  for (std::int64_t position = 0; position < length_; position += stream_.chunk) {
    before();
    const std::int64_t rows = std::min(stream_.chunk, length_ - position);
    const ModelBatch batch = chunk(window * length_, position, rows);
    const std::vector<double> nll = losses(model_.evaluate(batch, cache.get()).nll);
    sums.add(window * length_ + position, position, nll.data(), batch.targets.data(), rows);
    progress(rows);
  }
}

ModelBatch Windows::chunk(std::int64_t window_begin, std::int64_t position, std::int64_t rows) const {
  TokenBatch read = read_windows(dataset_, window_begin + position, 1, rows, stream_.documents);
  // Documents begin where they do in the window, not in the chunk.
  std::int64_t start = 0;
  if (stream_.documents.documents == Documents::mask) {
    start = std::max<std::int64_t>(0, dataset_.document_start(window_begin + position) - window_begin);
  }
  for (std::int64_t& place : read.document_start) place = place > 0 ? place + position : start;
  return make_chunk(position, std::move(read.tokens), std::move(read.targets), std::move(read.document_start),
                    sinks_of(model_.config()));
}

}  // namespace lexring
