/// From text to token ids and back.
///
/// Every tokenizer ends each document with one end-of-document token, which stands for no text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lexring {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::string kind() const = 0;    ///< its name in datasets, checkpoints and make_tokenizer: "bytes"
  virtual std::string files() const = 0;   ///< what must be stored to make this tokenizer again; may be empty
  virtual std::int64_t vocab() const = 0;  ///< V
  virtual std::int32_t end_of_document() const = 0;
  /// Bytes of text that each token stands for [V]: loss in bits per byte does not depend on the tokenizer.
  virtual std::vector<std::uint16_t> token_bytes() const = 0;

  /// For one thread; keeps what it has learned about words. The tokenizer must outlive it.
  class Encoder {
   public:
    virtual ~Encoder() = default;
    /// Appends the ids of a piece of a document (UTF-8), without the end-of-document token. A document of megabytes
    /// comes in pieces, cut after a line break, or between two characters where there is none.
    virtual void encode(std::string_view text, std::vector<std::uint32_t>& ids) = 0;
  };
  virtual std::unique_ptr<Encoder> encoder() const = 0;
  /// By an encoder of its own, for a text or two.
  void encode(std::string_view text, std::vector<std::uint32_t>& ids) const { encoder()->encode(text, ids); }
  /// The bytes of ids; an end of document gives none. Throws Error for an id outside [0, V).
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
};

/// All kinds that make_tokenizer knows.
std::vector<std::string> tokenizer_kinds();
/// What a person names: "bytes", or where the files of another one are. `end_of_document`: of its special tokens the
/// one that ends documents; empty: as its files say (byte_level_bpe.h). Throws UsageError.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name_or_path, const std::string& end_of_document = "");
/// The tokenizer of a kind, with the files that a dataset or a checkpoint stores. Throws UsageError naming the known
/// kinds, and Error for files that are not of this kind.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, const std::string& files = "");

}  // namespace lexring
