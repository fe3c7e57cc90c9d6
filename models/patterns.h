/// Attention patterns: which keys a query may see. A table (patterns.cpp) of makers and of which sizes each reads.
/// CONTRIBUTING.md lists what adding one touches.
///
/// Windows and blocks are measured in coordinates, which are the positions unless these have fractions, and may have
/// gaps; sinks are counted in tokens. All but full are causal, and none sees past the beginning or the end of the
/// query's document.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "framework/attention/cache.h"
#include "framework/attention/rows.h"
#include "models/config.h"

namespace lexring {

/// Where a query's document begins, where its first `sinks` tokens end (only read by sink patterns), and where it ends
/// (only read by patterns that see later keys); all are positions.
struct DocumentPlace {
  std::int64_t start = 0;
  std::int64_t sink_end = 0;
  std::int64_t end = 0;
};

class Pattern {
 public:
  Pattern() = default;
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
  virtual ~Pattern() = default;

  /// A query at `coordinate` sees keys from here on by the pattern alone (sinks apart). Never decreases with the
  /// coordinate, so what a streaming cache drops before it is never missed.
  virtual double first_coordinate(double coordinate) const = 0;
  /// Likewise among positions, which are whole numbers from 0 on.
  std::int64_t first_visible(std::int64_t position) const {
    return static_cast<std::int64_t>(std::ceil(std::max(first_coordinate(static_cast<double>(position)), 0.0)));
  }
  /// Tokens at the beginning of a document that stay visible.
  virtual std::int64_t sinks() const { return 0; }
  /// Whether a query sees the keys after it too, to the end of its document. Such a model cannot be streamed: what
  /// comes later changes what was before.
  virtual bool sees_later() const { return false; }
  /// The pattern of the later half of the query heads, where they have another.
  virtual std::unique_ptr<Pattern> of_later_heads() const { return nullptr; }

  /// For every row; `places` [N].
  Visibility visibility(const TokenTable& tokens, const std::vector<DocumentPlace>& places) const;
  /// What a streaming cache must keep before a chunk whose first query stands at `position`: everything of the document
  /// (causal), the halo (window, blockwise), or sinks and window.
  CacheKeep keep(std::int64_t position, const DocumentPlace& place) const;
};

/// Throws UsageError when the pattern's sizes make no sense.
std::unique_ptr<Pattern> make_pattern(const AttentionConfig& config);

}  // namespace lexring
