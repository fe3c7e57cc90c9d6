/// How a trained model is used: with another pattern, or with other rotary angles, than it was trained with. Its
/// parameters stay.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "jobs/config/options.h"

namespace lexring {

/// The keys of the run's table (configs/README.md) that may differ from the checkpoint's: attention.pattern, window,
/// block and sinks, its factors of scores and its clamp; position.scaling and what it reads, but for longrope's
/// divisors. Bound to `options`, which must outlive them.
std::vector<Key> model_use_keys(Options& options);

/// Puts the values of the `given` keys among model_use_keys(wanted) into the configuration of a checkpoint, with_sizes.
/// Throws UsageError for a key that changes nothing, naming what would.
void use_model(Options& stored, Options& wanted, const std::set<std::string>& given);

/// A pattern with the sizes that are missing (0): half of the training length for blocks, that length for windows, 4
/// sinks; none where it has none.
AttentionConfig with_sizes(AttentionConfig attention, std::int64_t train_length);

/// "blockwise, block 128", "window of 256 and 4 sinks", "causal".
std::string describe(const AttentionConfig& attention);
/// "xpos", "rope (yarn, factor 4)".
std::string describe(const PositionConfig& position);

}  // namespace lexring
