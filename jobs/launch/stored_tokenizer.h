/// The tokenizer between data sets and checkpoints: the model reads and writes what its data were made with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "datasets/dataset.h"
#include "datasets/tokenizers/tokenizer.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// What a checkpoint stores of the data set that it was trained on.
StoredTokenizer stored_tokenizer(const Dataset& dataset);
/// What a checkpoint says of its tokenizer. One from before tokenizers were stored: that of bytes where the vocabulary
/// of the model is theirs, otherwise not known.
StoredTokenizer stored_tokenizer(const CheckpointReader& checkpoint, std::int64_t vocab);

/// The tokenizer of a checkpoint's model. Throws Error where it is not known, or not of the model's vocabulary.
std::unique_ptr<Tokenizer> make_tokenizer(const CheckpointReader& checkpoint, std::int64_t vocab);

/// Throws UsageError where `dataset` was made with another tokenizer than a checkpoint's data. One that is not known is
/// no other one.
void require_same_tokenizer(const CheckpointReader& checkpoint, const Dataset& dataset);
/// The same of the data for validation and those for training.
void require_same_tokenizer(const Dataset& valid, const Dataset& train);

}  // namespace lexring
