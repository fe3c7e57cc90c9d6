/// Which sequences a replica computes in a step, and the tokens of them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "datasets/batches.h"
#include "models/masking.h"
#include "models/sampling.h"
#include "models/transformer.h"

namespace lexring {

/// A contiguous part of a step's global samples.
struct SampleRange {
  std::uint64_t first = 0;
  std::int64_t count = 0;
  bool operator==(const SampleRange&) const = default;
};

/// The part of samples [first, first + batch) that replica `replica` of `replicas` computes, in micro-batches of at
/// most `micro_batch` (0: one). Replicas hold equal, contiguous slices in order; throws UsageError with what would work
/// when `replicas` does not divide `batch`.
std::vector<SampleRange> micro_batches(std::uint64_t first, std::int64_t batch, int replica, int replicas,
                                       std::int64_t micro_batch);

/// The micro-batches of a step on this replica, at positions drawn by the sampler's seed, with tokens hidden by it.
/// `landmark`: the id of landmarks.
std::vector<ModelBatch> read_batches(const Sampler& sampler, const std::vector<SampleRange>& ranges, std::int64_t sinks,
                                     const SamplingConfig& positions, const std::optional<Masking>& masking = {},
                                     std::int64_t landmark = -1);

/// A batch of windows as the model takes it.
ModelBatch to_model_batch(TokenBatch batch, std::int64_t sinks);
/// Its targets that count.
std::int64_t counted_targets(const ModelBatch& batch);

}  // namespace lexring
