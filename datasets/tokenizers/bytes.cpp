#include "datasets/tokenizers/bytes.h"

#include "framework/base/error.h"

namespace lexring {
namespace {

class ByteEncoder final : public Tokenizer::Encoder {
 public:
  void encode(std::string_view text, std::vector<std::uint32_t>& ids) override {
    const auto first = ids.size();
    ids.resize(first + text.size());
    for (std::size_t i = 0; i < text.size(); ++i) ids[first + i] = static_cast<unsigned char>(text[i]);
  }
};

}  // namespace

ByteTokenizer::ByteTokenizer(const std::string& files) {
  require(
      files.empty(),
      "the byte tokenizer has no files, but {} bytes of them are stored with it; the dataset or checkpoint is damaged",
      files.size());
}

std::vector<std::uint16_t> ByteTokenizer::token_bytes() const {
  std::vector<std::uint16_t> bytes(257, 1);
  bytes[256] = 0;
  return bytes;
}

std::unique_ptr<Tokenizer::Encoder> ByteTokenizer::encoder() const { return std::make_unique<ByteEncoder>(); }

std::string ByteTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const auto id : ids) {
    require(
        id >= 0 && id <= 256,
        "token {} is not in the byte tokenizer's vocabulary of 257; the model or the dataset uses another tokenizer",
        id);
    if (id < 256) text.push_back(static_cast<char>(id));
  }
  return text;
}

}  // namespace lexring
