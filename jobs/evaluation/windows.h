/// Forward passes over the windows of a stream of tokens: many short ones at once, a long one chunk after chunk.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "datasets/batches.h"
#include "jobs/evaluation/statistics.h"
#include "jobs/evaluation/window_sums.h"
#include "models/masking.h"
#include "models/transformer.h"

namespace lexring {

/// The tokens [0, tokens) of a dataset, cut into windows of one length.
struct TokenStream {
  std::int64_t tokens = 0;
  DocumentUse documents = Documents::ignore;
  std::int64_t chunk = 4096;  ///< tokens of one forward pass, whatever the length: memory does not depend on it
  std::vector<std::int64_t> segment_ends = {};  ///< of the sums that a cell keeps; empty: every segment_tokens
  std::optional<Masking> masking = {};          ///< which tokens are hidden, and scored; none: the next ones are
  /// Where its segments end.
  std::vector<std::int64_t> ends() const {
    return segment_ends.empty() ? lexring::segment_ends(tokens, {segment_tokens}) : segment_ends;
  }
};

/// Windows of one length. Everything given must outlive it.
class Windows {
 public:
  Windows(Transformer& model, const Dataset& dataset, const TokenStream& stream, std::int64_t length)
      : model_(model), dataset_(dataset), stream_(stream), length_(length) {}

  /// Windows [first, first + count) in one forward pass.
  void together(std::int64_t first, std::int64_t count, WindowSums& sums, const AttentionProbe& probe = nullptr);
  /// One window, chunk after chunk: `before` each, and `progress` with its tokens after it.
  void streamed(std::int64_t window, WindowSums& sums, const std::function<void()>& before,
                const std::function<void(std::int64_t)>& progress);

 private:
  ModelBatch chunk(std::int64_t window_begin, std::int64_t position, std::int64_t rows) const;

  Transformer& model_;
  const Dataset& dataset_;
  const TokenStream& stream_;
  std::int64_t length_;
};

}  // namespace lexring
