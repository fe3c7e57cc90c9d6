#include "datasets/long_lines.h"

#include <algorithm>
#include <new>

#include "datasets/byte_stream.h"
#include "datasets/utf8.h"
#include "framework/base/error.h"

namespace lexring {

LongLines::LongLines(CorpusReader reader, const std::vector<CorpusFile>& files, std::size_t long_line,
                     std::size_t piece_bytes)
    : reader_(std::move(reader)), files_(files), long_line_(long_line), piece_bytes_(piece_bytes) {}

bool LongLines::next(TextBlock& block) {
  block = TextBlock();
  if (parser_) {
    block.begins_document = false;
    take_piece(block);
    return true;
  }
  if (!reader_.next(block)) return false;
  if (block.format == CorpusFormat::text || block.size <= long_line_) return true;
  parse(block);
  block.storage = ByteBuffer();
  block.size = 0;
  block.begins_document = true;
  if (parser_) take_piece(block);
  return true;
}

/// Leaves the document in parser_ and rest_; or a message in the block, or neither for a blank line.
void LongLines::parse(TextBlock& block) {
  bool found = false;
  const auto keep = [&](std::string_view text) {
    found = true;
    rest_ = text;
  };
  try {
    parser_.emplace();
    block.replaced =
        parser_->parse(block, files_[block.file], keep, [&](std::string message) { block.bad = std::move(message); });
  } catch (const std::bad_alloc&) {
    fail("there is not enough memory to parse {}, line {}, of {} MiB; {}", files_[block.file].path.string(),
         block.first_line, block.size >> 20, advice_on_memory);
  }
  if (!found) parser_.reset();
  file_ = block.file;
  line_ = block.first_line;
  bytes_read_ = block.bytes_read;
}

void LongLines::take_piece(TextBlock& block) {
  auto piece = rest_.substr(0, piece_bytes_);
  if (piece.size() < rest_.size()) {
    const auto line_break = piece.rfind('\n');
    piece = piece.substr(0, line_break != std::string_view::npos ? line_break + 1 : whole_characters(piece));
  }
  block.file = file_;
  block.format = CorpusFormat::text;
  block.first_line = line_;
  block.bytes_read = bytes_read_;
  block.storage.resize(piece.size() + TextBlock::padding);
  std::copy(piece.begin(), piece.end(), block.storage.data());
  block.size = piece.size();
  rest_.remove_prefix(piece.size());
  block.ends_document = rest_.empty();
  if (rest_.empty()) parser_.reset();
}

}  // namespace lexring
