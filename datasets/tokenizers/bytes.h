/// The tokenizer of bytes: 256 bytes + end of document (id 256).
#pragma once

#include "datasets/tokenizers/tokenizer.h"

namespace lexring {

class ByteTokenizer final : public Tokenizer {
 public:
  /// Has no files: throws Error where some are given.
  explicit ByteTokenizer(const std::string& files = "");

  std::string kind() const override { return "bytes"; }
  std::string files() const override { return ""; }
  std::int64_t vocab() const override { return 257; }
  std::int32_t end_of_document() const override { return 256; }
  std::vector<std::uint16_t> token_bytes() const override;
  std::unique_ptr<Encoder> encoder() const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
};

}  // namespace lexring
