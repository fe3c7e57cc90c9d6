#include "datasets/document_parser.h"

#include <algorithm>

#include <fmt/core.h>
#include <simdjson.h>

#include "datasets/utf8.h"

namespace lexring {
namespace {

static_assert(TextBlock::padding >= simdjson::SIMDJSON_PADDING);

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

std::string not_utf8(std::string_view text, std::size_t at) {
  return fmt::format("byte 0x{:02x} begins no UTF-8 character", static_cast<unsigned char>(text[at]));
}

}  // namespace

struct DocumentParser::Impl {
  simdjson::dom::parser parser;

  /// The document of one line; or, with `cause` filled, nothing.
  std::string_view text_of(std::string_view line, std::string& cause);
};

// The whole object is parsed, not only the field: a line that is broken behind its text is broken.
std::string_view DocumentParser::Impl::text_of(std::string_view line, std::string& cause) {
  simdjson::dom::element document;
  if (const auto error = parser.parse(line.data(), line.size(), false).get(document)) {
    const auto at = error == simdjson::UTF8_ERROR ? invalid_utf8_at(line) : std::nullopt;
    cause = at ? fmt::format("{} (byte {} of the line)", not_utf8(line, *at), *at)
               : fmt::format("broken JSON: {}", simdjson::error_message(error));
    return {};
  }
  std::string_view text;
  if (!document.is_object()) {
    cause = "not a JSON object; expected {\"text\": \"...\"}";
  } else if (document["text"].get(text) != simdjson::SUCCESS) {
    cause = "no string under \"text\"";
  }
  return text;
}

DocumentParser::DocumentParser() : impl_(std::make_unique<Impl>()) {}
DocumentParser::~DocumentParser() = default;

void DocumentParser::parse(const TextBlock& block, const CorpusFile& file, const std::function<void(std::string_view)>& piece,
                           const std::function<void(std::string)>& bad) {
  auto rest = block.text();
  if (file.format == CorpusFormat::text) {
    if (const auto at = invalid_utf8_at(rest)) {
      const auto line =
          block.first_line + static_cast<std::uint64_t>(std::count(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(*at), '\n'));
      bad(fmt::format("{}, line {} (byte {}): {}", file.path.string(), line, block.first_byte + *at, not_utf8(rest, *at)));
    } else {
      piece(rest);
    }
    return;
  }
  for (auto number = block.first_line; !rest.empty(); ++number) {
    const auto end = std::min(rest.find('\n'), rest.size() - 1) + 1;
    const auto line = rest.substr(0, end);
    rest.remove_prefix(end);
    if (blank(line)) continue;
    std::string cause;
    const auto text = impl_->text_of(line, cause);
    if (cause.empty()) {
      piece(text);
    } else {
      bad(fmt::format("{}, line {}: {}", file.path.string(), number, cause));
    }
  }
}

}  // namespace lexring
