/// A corpus on disk, cut into blocks of about a megabyte: memory does not grow with the corpus, nor with a document of
/// plain text.
///
/// .txt .md .pod: one document a file. .jsonl: one JSON object a line, its document under "text" (the Pile's layout).
/// Each also compressed, with .zst behind the name; the frames of a .zst may be any number and use any window.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/byte_buffer.h"
#include "datasets/directory_walk.h"

namespace lexring {

enum class CorpusFormat { text, json_lines };
enum class Compression { none, zstd };

struct CorpusFile {
  std::filesystem::path path;
  CorpusFormat format;
  Compression compression;
  std::uint64_t bytes = 0;  ///< on disk
};

struct CorpusFiles {
  std::vector<CorpusFile> files;
  std::uint64_t bytes = 0;  ///< on disk, of all
  LeftOut left_out;         ///< of directories
};

/// The files that `inputs` name, in that order; a directory stands for what is in and below it (directory_walk.h).
/// Throws UsageError for an input that does not exist or is no file, a file of an unknown kind, a directory without a
/// corpus file, and no input at all.
CorpusFiles find_corpus(const std::vector<std::string>& inputs);

/// A stretch of one file: whole lines of JSON, or a piece of one text document.
struct TextBlock {
  std::size_t file = 0;  ///< index in the corpus' files
  CorpusFormat format = CorpusFormat::
      text;  ///< of this text: the file's, or `text` for a piece of a document out of a long line (long_lines.h)
  std::uint64_t first_line = 1;  ///< line of the file (uncompressed) where the block begins, from 1
  std::uint64_t first_byte = 0;  ///< byte of the file (uncompressed) where it begins
  bool begins_document = true;   ///< text: it is the first piece of its file
  bool ends_document = true;     ///< text: it is the last
  std::uint64_t bytes_read = 0;  ///< on disk, of the whole corpus, when the block had been read
  std::string bad;               ///< a message about a long line that was not sound; then there is no text
  std::int64_t replaced = 0;     ///< lone surrogates of a long line that became U+FFFD

  std::string_view text() const { return {storage.data(), size}; }
  ByteBuffer storage;    ///< the text and behind it at least `padding` bytes that a vectorised parser may touch
  std::size_t size = 0;  ///< of the text
  static constexpr std::size_t padding = 64;
};

/// Reads the files one after the other.
class CorpusReader {
 public:
  /// Blocks are of up to `block_bytes`; a longer line of JSON makes a longer block, and has it to itself. `pause` is
  /// called between reads, and may throw.
  explicit CorpusReader(std::vector<CorpusFile> files, std::size_t block_bytes = std::size_t{1} << 20,
                        std::function<void()> pause = {});
  CorpusReader(CorpusReader&&) noexcept;
  ~CorpusReader();

  /// The next block; false at the end of the corpus. Throws Error naming the file when it cannot be read, is truncated
  /// or damaged zstd, has changed since find_corpus looked at it, or needs more memory than there is.
  bool next(TextBlock& block);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
