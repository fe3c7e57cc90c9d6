/// Lines of JSON of many megabytes, taken apart where they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "datasets/corpus.h"
#include "datasets/document_parser.h"

namespace lexring {

/// Hands on a reader's blocks. A line of JSON longer than `long_line` is parsed here, and its document handed on in
/// pieces of about `piece_bytes`, like one of plain text: so one such line is held at a time, and only as its own text,
/// whatever its tokens take. At the peak, while it is parsed, it takes twice its size (for the megabytes of numbers
/// that a document may have beside its text the parser takes more).
class LongLines {
 public:
  LongLines(CorpusReader reader, const std::vector<CorpusFile>& files, std::size_t long_line = std::size_t{2} << 20,
            std::size_t piece_bytes = std::size_t{1} << 20);

  /// The next block, see CorpusReader::next. A line that is not sound comes as a block without text, with the message
  /// in `bad`.
  bool next(TextBlock& block);

 private:
  void parse(TextBlock& block);
  void take_piece(TextBlock& block);

  CorpusReader reader_;
  const std::vector<CorpusFile>& files_;
  std::size_t long_line_, piece_bytes_;
  std::optional<DocumentParser> parser_;  ///< of the line whose document is under way: it holds the text
  std::string_view rest_;                 ///< of the text
  std::size_t file_ = 0;                  ///< where the line stands
  std::uint64_t line_ = 0, bytes_read_ = 0;
};

}  // namespace lexring
