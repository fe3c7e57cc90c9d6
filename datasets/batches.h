/// From a dataset to batches. The batch of step n is a pure function of (seed, n): the same on every mesh and after
/// every resume.
#pragma once

#include <cstdint>
#include <vector>

#include "datasets/dataset.h"
#include "framework/base/words.h"

namespace lexring {

/// A permutation of [0, size) given by a key: no shuffled index in memory. Cycle-walking Feistel network over the next
/// power of four.
class KeyedPermutation {
 public:
  KeyedPermutation(std::uint64_t size, std::uint64_t key);
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

/// What documents mean to attention: `mask` hides other documents of the window, `ignore` does not.
enum class Documents { mask, ignore };
constexpr auto words(Documents) {
  return std::to_array<Word<Documents>>({{Documents::mask, "mask"}, {Documents::ignore, "ignore"}});
}

/// Whether a model learns where a document ends (Newman et al. 2020): `token` makes the end-of-document token a target
/// like others; with `none` it is not counted as one. Where documents are masked nothing but the token itself sees it,
/// so that it might as well not be there.
enum class EndOfDocument { token, none };
constexpr auto words(EndOfDocument) {
  return std::to_array<Word<EndOfDocument>>({{EndOfDocument::token, "token"}, {EndOfDocument::none, "none"}});
}

/// What a batch makes of documents.
struct DocumentUse {
  Documents documents;
  EndOfDocument end;  ///< none only with `mask`

  // NOLINTNEXTLINE(google-explicit-constructor)
  DocumentUse(Documents how, EndOfDocument last = EndOfDocument::token) : documents(how), end(last) {}
  bool operator==(const DocumentUse&) const = default;
};

/// Some windows of one length, row after row.
struct TokenBatch {
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  std::vector<std::int32_t> tokens;  ///< [sequences * length]
  /// [sequences * length] next tokens of the stream; -1: not counted. With `mask` the end-of-document token has no
  /// target: nothing it may see says what the next document begins with. With `ignore` it has. The very last token of
  /// the dataset has none either way. Where the dataset has answers, only their tokens are targets. Landmarks are no
  /// targets and have none: the token before one has the token after it.
  std::vector<std::int32_t> targets;
  std::vector<std::int64_t> document_start;  ///< [sequences * length] where in the window the token's document begins
                                             ///< (0 when ignored)
};

/// Throws UsageError where the dataset's texts lie whole in windows that windows of this length would cut.
void require_whole_texts(const Dataset& dataset, std::int64_t length);

/// Windows of length + 1 tokens (inputs and shifted targets), every `length` tokens; epoch e visits all of them once,
/// in an order keyed by (seed, e).
class Sampler {
 public:
  /// `dataset` must outlive the sampler. Throws Error when the corpus is shorter than one window, saying which lengths
  /// would fit; UsageError as require_whole_texts does.
  Sampler(const Dataset& dataset, std::int64_t length, std::uint64_t seed, DocumentUse documents);

  std::uint64_t seed() const { return seed_; }
  std::int64_t windows() const { return windows_; }
  /// The window of global sample `sample` (step * batch + place in batch).
  std::int64_t window(std::uint64_t sample) const;
  /// Samples [first, first + count), in order. Of step n, replica r of R, micro-batch by micro-batch: the caller's
  /// arithmetic.
  TokenBatch batch(std::uint64_t first, std::int64_t count) const;

 private:
  const Dataset* dataset_;
  std::int64_t length_;
  std::uint64_t seed_;
  DocumentUse documents_;
  std::int64_t windows_;
};

/// For evaluation: `count` windows side by side, of `length` tokens each, window i from *token* first + i * length,
/// with their targets. Throws Error when the dataset ends before them.
TokenBatch read_windows(const Dataset& dataset, std::int64_t first, std::int64_t count, std::int64_t length,
                        DocumentUse documents);

}  // namespace lexring
