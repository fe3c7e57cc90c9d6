/// The measurement: losses of a model over windows of a dataset, by length and pattern, every length over the same
/// tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "jobs/evaluation/kept_parts.h"
#include "jobs/evaluation/results.h"
#include "jobs/evaluation/windows.h"
#include "models/transformer.h"
#include "parallel/context.h"

namespace lexring {

/// How many tokens to score so that every length tiles them exactly: a multiple of all lengths' least common multiple,
/// about `wanted` (0: 262,144, or the longest length if that is more), at most what `dataset` holds. Throws UsageError
/// when the dataset or the wish is too short, saying what fits.
std::int64_t tokens_to_score(const Dataset& dataset, const std::vector<std::int64_t>& lengths, std::int64_t wanted);

/// Losses of the windows of `length` under the model's present pattern. Windows shorter than a chunk are computed
/// several at a time, longer ones chunk by chunk with a key and value cache; where ranks share sequences (cp), longer
/// ones at once, each rank its part. Fills sums, positions, seconds and memory; summarise() does the rest. Collective.
///
/// The windows are cut into parts of some passes each, of which every data-parallel rank takes an equal run. All sums
/// are f64, over a part first and then over the parts in their order, so that a cell whose first parts were there has
/// the same bits. Throws EvaluationStopped between two passes.
Cell measure(Transformer& model, const Context& context, const Dataset& dataset, const TokenStream& stream,
             std::int64_t length, const CellWork& work = {});

/// Attention resolution at `length` over up to `texts` windows spread over the stream: scores averaged over texts and
/// heads, R per layer, then averaged. The time is quadratic in the length. One part. Collective; throws
/// EvaluationStopped between two texts.
Resolution measure_resolution(Transformer& model, const Context& context, const Dataset& dataset,
                              const TokenStream& stream, std::int64_t length, std::int64_t texts,
                              const CellWork& work = {});

}  // namespace lexring
