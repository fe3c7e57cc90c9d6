/// Landmark tokens among those of a document (Mohtashami and Jaggi 2023, "Landmark Attention", section 3.1): one after
/// every `every` tokens from the document's begin on, its end-of-document token among them. A model with landmark
/// attention reads documents with their landmarks in place; files and texts have none.
///
/// A *place* counts tokens and landmarks of one document, from 0.
#pragma once

#include <cstdint>

namespace lexring {

struct LandmarkSpacing {
  std::int64_t every = 0;  ///< 0: there are none, and places are tokens

  /// The place of a token; of one more than the last: how many places a document has.
  std::int64_t place(std::int64_t token) const { return every > 0 ? token + token / every : token; }
  bool is_landmark(std::int64_t place) const { return every > 0 && place % (every + 1) == every; }
  /// Tokens before a place.
  std::int64_t tokens_before(std::int64_t place) const { return every > 0 ? place - place / (every + 1) : place; }
};

}  // namespace lexring
