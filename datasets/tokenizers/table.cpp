#include <array>

#include <fmt/ranges.h>

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
};

}  // namespace

std::vector<std::string> tokenizer_kinds() {
  std::vector<std::string> kinds;
  for (const Entry& entry : table) kinds.emplace_back(entry.kind);
  return kinds;
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, const std::string& files) {
  for (const Entry& entry : table) {
    if (kind == entry.kind) return entry.make(files);
  }
  throw UsageError(
      fmt::format("unknown tokenizer \"{}\"; this version knows: {}", kind, fmt::join(tokenizer_kinds(), ", ")));
}

}  // namespace lexring
