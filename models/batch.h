/// Batches of tokens: what a model is given, and what becomes of it for attention.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/attention/landmarks.h"
#include "models/patterns.h"

namespace lexring {

/// The batch of a data-parallel replica, whole: every cp and tp rank of it is given the same one and cuts its own part.
struct ModelBatch {
  TokenTable tokens;                  ///< sequences and global positions
  std::vector<std::int32_t> ids;      ///< [N] token ids
  std::vector<std::int32_t> targets;  ///< [N] next tokens, -1: not counted; may be empty where no loss is asked
  /// What is visible of documents and sinks: position where the document of each row begins, and the position just
  /// after its first `attention.sinks` tokens. Empty: one document per sequence, which begins at the sequence's first
  /// position.
  std::vector<std::int64_t> document_start;  ///< [N] or empty
  std::vector<std::int64_t> sink_end;        ///< [N] or empty; only read by sink patterns
};

/// Sequences `first_id ...` of `length` dense positions each from row-major ids, with documents given by their start
/// position (may be empty).
ModelBatch make_batch(std::int64_t sequences, std::int64_t length, std::vector<std::int32_t> ids,
                      std::vector<std::int32_t> targets, std::vector<std::int64_t> document_start, std::int64_t sinks);
/// The rows of one sequence from `position` on, to continue what a cache holds; documents may have begun before it.
ModelBatch make_chunk(std::int64_t position, std::vector<std::int32_t> ids, std::vector<std::int32_t> targets,
                      std::vector<std::int64_t> document_start, std::int64_t sinks);

/// Rows and documents of a whole batch, at their places among the tokens of their sequence instead of their positions;
/// without ids and targets.
ModelBatch counted_in_tokens(const ModelBatch& batch);

/// Throws Error unless ids and targets are in the vocabulary and all sizes agree.
void check(const ModelBatch& batch, const ModelConfig& config);

/// One more than the last position, or coordinate (rounded down): the length of the batch's longest sequence.
std::int64_t length_of(const TokenTable& tokens);

/// Where each row's document begins, its sinks end, and it ends. Without document table a sequence is one, from its
/// first position on, which for a streamed chunk is the first the cache holds (sinks are never forgotten).
std::vector<DocumentPlace> document_places(const ModelBatch& batch, std::int64_t sinks, const TokenTable* cached);

/// What each row of a batch sees by a pattern.
Visibility visibility(const ModelBatch& batch, const Pattern& pattern, const TokenTable* cached);

/// Where tokens with the id `landmark` stand.
LandmarkPositions landmarks_of(const ModelBatch& batch, std::int64_t landmark);
/// The positions that documents begin at, of rows.
std::vector<std::int64_t> starts_of(const std::vector<DocumentPlace>& places);

/// How many keys each query sees; `keys` has the queries' own rows too.
std::vector<std::int64_t> visible_keys(const TokenTable& queries, const Visibility& visible, const TokenTable& keys);

/// Pairs of query and key that a pattern leaves visible.
double visible_pairs(const TokenTable& tokens, const Visibility& visible);

}  // namespace lexring
