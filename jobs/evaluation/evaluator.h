/// The measurement: losses of a model over windows of a dataset, by length and pattern, every length over the same
/// tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "datasets/batches.h"
#include "jobs/evaluation/results.h"
#include "models/masking.h"
#include "models/transformer.h"
#include "parallel/context.h"

namespace lexring {

/// The tokens [0, tokens) of a dataset, cut into windows of one length.
struct TokenStream {
  std::int64_t tokens = 0;
  DocumentUse documents = Documents::ignore;
  std::int64_t chunk = 4096;  ///< tokens of one forward pass, whatever the length: memory does not depend on it
  std::vector<std::int64_t> segment_ends = {};  ///< of the sums that a cell keeps; empty: every segment_tokens
  std::optional<Masking> masking = {};          ///< which tokens are hidden, and scored; none: the next ones are
};

/// How many tokens to score so that every length tiles them exactly: a multiple of all lengths' least common multiple,
/// about `wanted` (0: 262,144, or the longest length if that is more), at most what `dataset` holds. Throws UsageError
/// when the dataset or the wish is too short, saying what fits.
std::int64_t tokens_to_score(const Dataset& dataset, const std::vector<std::int64_t>& lengths, std::int64_t wanted);

/// Losses of the windows of `length` under the model's present pattern. Windows are dealt to the data-parallel ranks in
/// runs; all sums are f64 and the same on every rank afterwards. Windows shorter than a chunk are computed several at a
/// time, longer ones chunk by chunk with a key and value cache; where ranks share sequences (cp), longer ones at once,
/// each rank its part. Fills sums, positions, seconds and memory; summarise() does the rest. Collective. `progress`
/// gets tokens done by this rank.
Cell measure(Transformer& model, const Context& context, const Dataset& dataset, const TokenStream& stream,
             std::int64_t length, const std::function<void(std::int64_t)>& progress = nullptr);

/// Attention resolution at `length` over up to `texts` windows spread over the stream: scores averaged over texts and
/// heads, R per layer, then averaged. The time is quadratic in the length. Collective.
Resolution measure_resolution(Transformer& model, const Context& context, const Dataset& dataset,
                              const TokenStream& stream, std::int64_t length, std::int64_t texts);

}  // namespace lexring
