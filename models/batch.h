/// From a batch of tokens to what operations take: index tensors, document places, checks.
#pragma once

#include <vector>

#include "models/patterns.h"
#include "models/transformer.h"

namespace lexring {

/// Throws Error unless ids and targets are in the vocabulary and all sizes agree.
void check(const ModelBatch& batch, const ModelConfig& config);

/// Where each row's document begins and its sinks end. Sequences without document table: one document from the
/// sequence's first position, which for a streamed chunk is the first the cache holds (sinks are never forgotten).
std::vector<DocumentPlace> document_places(const ModelBatch& batch, std::int64_t sinks, const TokenTable* cached);

/// Pairs of query and key that a pattern leaves visible.
double visible_pairs(const TokenTable& tokens, const Visibility& visible);

}  // namespace lexring
