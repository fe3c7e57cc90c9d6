#include <array>

#include <fmt/ranges.h>

#include "datasets/tokenizers/byte_level_bpe.h"
#include "datasets/tokenizers/bytes.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

template <class Kind>
std::unique_ptr<Tokenizer> make(const std::string& files) {
  return std::make_unique<Kind>(files);
}

struct Entry {
  const char* kind;
  std::unique_ptr<Tokenizer> (*make)(const std::string& files);
};

constexpr std::array table = {
    Entry{"bytes", make<ByteTokenizer>},
    Entry{ByteLevelBpeTokenizer::name, make<ByteLevelBpeTokenizer>},
};

}  // namespace

std::vector<std::string> tokenizer_kinds() {
  std::vector<std::string> kinds;
  for (const Entry& entry : table) kinds.emplace_back(entry.kind);
  return kinds;
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path, const std::string& end_of_document) {
  if (name_or_path != "bytes")
    return make_tokenizer(ByteLevelBpeTokenizer::name, read_bpe_files(name_or_path, end_of_document));
  require_usage(end_of_document.empty(), "--end-of-document {}, but bytes have one of their own; leave it out",
                end_of_document);
  return make_tokenizer("bytes");
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, const std::string& files) {
  for (const Entry& entry : table) {
    if (kind == entry.kind) return entry.make(files);
  }
  throw UsageError(
      fmt::format("unknown tokenizer \"{}\"; this version knows: {}", kind, fmt::join(tokenizer_kinds(), ", ")));
}

}  // namespace lexring
