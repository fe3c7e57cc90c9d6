/// Blocks of a corpus -> the text of documents, checked.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "datasets/corpus.h"

namespace lexring {

/// One per thread.
class DocumentParser {
 public:
  DocumentParser();
  ~DocumentParser();

  /// Calls `piece` for every document of the block in order, or for the block's piece of a text document. What is not
  /// sound (JSON that does not parse, no string under "text", text that is not UTF-8) goes to `bad` instead, as a
  /// message naming file, line and cause. Blank lines of JSON are passed over, and a byte-order mark at the start of a
  /// line of JSON or of a text. What Python's json reads is read (json_repair.h, which may change the block's lines);
  /// of two "text" in one object the last counts. Returns how many lone surrogates became U+FFFD. A line's text stays
  /// valid until the next line is parsed. Throws std::bad_alloc: too little memory is no property of a line.
  std::int64_t parse(TextBlock& block, const CorpusFile& file, const std::function<void(std::string_view)>& piece,
                     const std::function<void(std::string)>& bad);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
