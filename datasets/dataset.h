/// A tokenised corpus in HDF5, read by offset.
///
/// File: /tokens uint16 or uint32 [N], contiguous; /documents uint64 [D + 1] offsets into tokens; /token_bytes uint16
/// [V]: bytes of text per token; where only answers count (prepare --task), /answers uint64 [2 A]: first and one past
/// the last token of each, rising; attributes of the root group: format_version, tokenizer (kind), tokenizer_files
/// (bytes, may be empty), vocab, source, content_hash; window, where texts were laid into windows of one length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "datasets/landmarks.h"

namespace lexring {

class Dataset {
 public:
  /// Opens and checks the file: what is missing, empty, truncated or foreign is an Error that names file and cause, and
  /// so is one that another program has locked. Tokens are read with pread at the dataset's offset, so any thread may
  /// read and HDF5 is not needed after opening.
  static Dataset open(const std::filesystem::path& path);

  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;
  ~Dataset();

  const std::filesystem::path& path() const;
  std::int64_t tokens() const;                 ///< N
  std::int64_t vocab() const;                  ///< V
  const std::string& tokenizer() const;        ///< "bytes"
  const std::string& tokenizer_files() const;  ///< for make_tokenizer
  const std::string& source()
      const;  ///< the inputs as `lexring prepare` was given them; describe_sources (sources.h) is for people
  const std::string& content_hash() const;                ///< hex; of tokens and documents
  const std::vector<std::uint64_t>& documents() const;    ///< [D + 1] first token of each document, then N
  const std::vector<std::uint16_t>& token_bytes() const;  ///< [V]
  const std::vector<std::uint64_t>& answers() const;      ///< [2 A] as in the file; empty: every token counts
  /// Windows of this many tokens hold whole texts, and others would cut them; 0: a stream to be cut anywhere.
  std::int64_t window() const;
  /// From now on the stream has a landmark (landmarks.h), of id vocab(), after every `every` tokens of each document:
  /// tokens, documents, answers and windows are counted with them. Where texts lie whole in windows, all windows grow
  /// by the most landmarks that one can hold, and the last document of one that holds fewer goes on with its last
  /// token. 0: none. Once at most.
  void insert_landmarks(std::int64_t every);
  const LandmarkSpacing& landmarks() const;
  /// Tokens [first, first + out.size()). Throws Error when out of range, on a read error, and on an id
  /// outside the vocabulary (a damaged file).
  void read(std::int64_t first, std::span<std::int32_t> out) const;
  /// Those of the file, without landmarks, as they lie on disk, little-endian, token_width() (2 or 4) bytes each: for
  /// hashing.
  void read_raw(std::int64_t first, std::span<std::byte> out) const;
  int token_width() const;
  /// First token of the document that token `index` belongs to.
  std::int64_t document_start(std::int64_t index) const;

 private:
  struct Impl;
  explicit Dataset(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
