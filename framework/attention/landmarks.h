/// Rows of landmark attention (Mohtashami and Jaggi 2023, "Landmark Attention: Random-Access Infinite Context Length
/// for Transformers", section 3.1). Some tokens are landmarks; each closes a block of its document. A query normalises
/// over the tokens of its own block and the landmarks of the blocks before it; the weight of a landmark is then spread
/// over the tokens of its block by a softmax among these. Landmarks keep no weight, and nobody in its own block sees
/// one, itself included.
///
/// A query meets block i of its document in round i: its tokens, and apart from them its landmark.
#pragma once

#include <map>
#include <vector>

#include "framework/attention/rows.h"

namespace lexring {

/// Positions of landmarks, which rise, by the id of their sequence.
using LandmarkPositions = std::map<std::int64_t, std::vector<std::int64_t>>;

/// The rows that take part in a round: all queries that meet something lie in `query_range`, all that they meet in
/// `key_range`. Others in between see nothing, or are not seen.
struct LandmarkRound {
  struct Range {
    std::int64_t first = 0, count = 0;
  };
  Range query_range, key_range;  ///< among all
  SharedRows keys;
  SharedRows block;     ///< the queries, which see the tokens of a block
  SharedRows landmark;  ///< the queries, which see its landmark
};

struct LandmarkRows {
  SharedRows own;  ///< the queries, which see what is not after them in their own block

  /// Of a query: where its document begins, the landmarks before it there, and how many these are.
  struct Before {
    std::int64_t start;
    const std::int64_t* landmarks;
    std::int64_t count;
  };
  std::shared_ptr<const LandmarkPositions> positions;
  std::vector<Before> before;  ///< [N]; points into `positions`

  /// How many blocks any query has before its own.
  std::int64_t rounds() const;
  /// Block `number` of every document, of all keys.
  LandmarkRound round(std::int64_t number, const AttentionRows& all) const;
};

/// `document_start` [N]: the position that each query's document begins at. Sequences may have no landmarks.
LandmarkRows make_landmark_rows(const TokenTable& queries, const RotaryTable& rotary,
                                const std::vector<std::int64_t>& document_start,
                                std::shared_ptr<const LandmarkPositions> positions);

}  // namespace lexring
