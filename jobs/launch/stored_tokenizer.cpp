#include "jobs/launch/stored_tokenizer.h"

#include <fmt/format.h>

#include "datasets/tokenizers/bytes.h"
#include "framework/base/error.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

std::string describe(const StoredTokenizer& tokenizer) {
  if (tokenizer.files.empty()) return tokenizer.kind;
  return fmt::format("{}, files with checksum {}", tokenizer.kind, hash_text(tokenizer.files));
}

}  // namespace

StoredTokenizer stored_tokenizer(const Dataset& dataset) { return {dataset.tokenizer(), dataset.tokenizer_files()}; }

StoredTokenizer stored_tokenizer(const CheckpointReader& checkpoint, std::int64_t vocab) {
  const StoredTokenizer& stored = checkpoint.state().tokenizer;
  const ByteTokenizer bytes;
  return stored.kind.empty() && vocab == bytes.vocab() ? StoredTokenizer{bytes.kind(), bytes.files()} : stored;
}

std::unique_ptr<Tokenizer> make_tokenizer(const CheckpointReader& checkpoint, std::int64_t vocab) {
  const StoredTokenizer stored = stored_tokenizer(checkpoint, vocab);
  const std::string path = checkpoint.path().string();
  require(!stored.kind.empty(),
          "{} has no tokenizer, as an earlier version saved it, and its vocabulary of {} is not the {} of bytes; train "
          "it for one more step, and take the checkpoint that is saved then",
          path, vocab, ByteTokenizer().vocab());
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = make_tokenizer(stored.kind, stored.files);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: {}", path, error.what()));
  }
  require(tokenizer->vocab() == vocab, "{} has a vocabulary of {}, but its tokenizer ({}) one of {}; take another one",
          path, vocab, describe(stored), tokenizer->vocab());
  return tokenizer;
}

void require_same_tokenizer(const CheckpointReader& checkpoint, const Dataset& dataset) {
  const StoredTokenizer &stored = checkpoint.state().tokenizer, here = stored_tokenizer(dataset);
  require_usage(stored.kind.empty() || stored == here,
                "the data of {} were prepared with the tokenizer {}, but {} with {}; prepare it with the tokenizer of "
                "that training",
                checkpoint.path().string(), describe(stored), dataset.path().string(), describe(here));
}

void require_same_tokenizer(const Dataset& valid, const Dataset& train) {
  const StoredTokenizer scored = stored_tokenizer(valid), trained = stored_tokenizer(train);
  require_usage(
      scored == trained,
      "data.valid = {} was prepared with the tokenizer {}, but data.train = {} with {}; prepare both with one",
      valid.path().string(), describe(scored), train.path().string(), describe(trained));
}

}  // namespace lexring
