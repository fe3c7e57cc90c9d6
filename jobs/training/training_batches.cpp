#include "jobs/training/training_batches.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "framework/base/error.h"

namespace lexring {

std::vector<SampleRange> micro_batches(std::uint64_t first, std::int64_t batch, int replica, int replicas,
                                       std::int64_t micro_batch) {
  require_usage(batch % replicas == 0,
                "train.batch = {} does not divide over {} data-parallel replicas; choose a multiple of {}, e.g. {}, or "
                "another mesh.dp",
                batch, replicas, replicas, (batch / replicas + 1) * replicas);
  const std::int64_t mine = batch / replicas;
  const std::int64_t largest = micro_batch > 0 ? micro_batch : mine;
  std::vector<SampleRange> ranges;
  for (std::int64_t done = 0; done < mine; done += largest) {
    ranges.push_back({first + static_cast<std::uint64_t>(replica * mine + done), std::min(largest, mine - done)});
  }
  return ranges;
}

std::vector<ModelBatch> read_batches(const Sampler& sampler, const std::vector<SampleRange>& ranges, std::int64_t sinks,
                                     const SamplingConfig& positions, const std::optional<Masking>& masking,
                                     std::int64_t landmark) {
  std::vector<ModelBatch> batches;
  for (const SampleRange& range : ranges) {
    batches.push_back(to_model_batch(sampler.batch(range.first, range.count), sinks));
    draw_positions(batches.back(), positions, sampler.seed(), range.first, landmark);
    if (masking) masking->hide_samples(batches.back(), sampler.seed(), range.first);
  }
  return batches;
}

ModelBatch to_model_batch(TokenBatch batch, std::int64_t sinks) {
  return make_batch(batch.sequences, batch.length, std::move(batch.tokens), std::move(batch.targets),
                    std::move(batch.document_start), sinks);
}

std::int64_t counted_targets(const ModelBatch& batch) {
  return std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t target) { return target >= 0; });
}

}  // namespace lexring
