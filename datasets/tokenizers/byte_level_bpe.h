/// Byte-level BPE (Radford et al. 2019) from Hugging Face's files. Ids are those of that library for the same file,
/// without the special tokens that it may add around a text; special tokens in a text are text.
#pragma once

#include <filesystem>

#include "datasets/tokenizers/tokenizer.h"

namespace lexring {

class ByteLevelBpeTokenizer final : public Tokenizer {
 public:
  /// What files() returns. Throws Error where it is not of this kind.
  explicit ByteLevelBpeTokenizer(const std::string& files);
  ~ByteLevelBpeTokenizer() override;

  static constexpr const char* name = "bpe";
  std::string kind() const override { return name; }
  std::string files() const override;
  std::int64_t vocab() const override;
  std::int32_t end_of_document() const override;
  std::vector<std::uint16_t> token_bytes() const override;
  std::unique_ptr<Encoder> encoder() const override;
  std::string decode(std::span<const std::int32_t> ids) const override;

 private:
  friend class BpeEncoder;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The text for the constructor from `path`: a tokenizer.json, or a directory with one, or with GPT-2's vocab.json and
/// merges.txt. `end_of_document`: the token that ends documents; empty: what tokenizer_config.json beside it calls
/// eos_token, else the only known one of the special tokens. Throws UsageError where there is none, or the files are
/// not there.
std::string read_bpe_files(const std::filesystem::path& path, const std::string& end_of_document);

}  // namespace lexring
