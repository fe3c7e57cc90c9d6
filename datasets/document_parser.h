/// Blocks of a corpus -> the text of documents, checked.
#pragma once

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

  /// Calls `piece` for every document of the block in order, or for the block's piece of a text document. What is not sound (JSON that does not parse, no
  /// string under "text", text that is not UTF-8) goes to `bad` instead, as a message naming file, line and cause. Blank lines of JSON are passed over.
  void parse(const TextBlock& block, const CorpusFile& file, const std::function<void(std::string_view)>& piece,
             const std::function<void(std::string)>& bad);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
