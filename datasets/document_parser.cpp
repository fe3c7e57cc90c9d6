#include "datasets/document_parser.h"

#include <algorithm>
#include <new>
#include <span>

#include <fmt/core.h>
#include <simdjson.h>

#include "datasets/json_repair.h"
#include "datasets/utf8.h"

namespace lexring {
namespace {

static_assert(TextBlock::padding >= simdjson::SIMDJSON_PADDING);

constexpr auto array_not_object =
    "a JSON array, where every line holds one object {\"text\": \"...\"}; `jq -c '.[]'` makes lines of an array's "
    "objects";

bool blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

void drop_byte_order_mark(std::string_view& text) {
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
}

std::string not_utf8(std::string_view text, std::size_t at) {
  if (at == 0 && (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))) {
    return "this is UTF-16, not UTF-8; `iconv -f UTF-16 -t UTF-8` makes it so";
  }
  return fmt::format("byte 0x{:02x} begins no UTF-8 character", static_cast<unsigned char>(text[at]));
}

std::string broken_json(std::string_view line, simdjson::error_code error) {
  if (error == simdjson::UTF8_ERROR) {
    if (const auto at = invalid_utf8_at(line)) return fmt::format("{} (byte {} of the line)", not_utf8(line, *at), *at);
  }
  if (error == simdjson::CAPACITY) return "it is longer than the 4 GiB that a line may have";
  const auto first = line.find_first_not_of(" \t");
  if (first != std::string_view::npos && blank(line.substr(first + 1))) {
    if (line[first] == '[') return array_not_object;
    if (line[first] == '{') return "the object does not end on its line; `jq -c .` puts every object on one line";
  }
  return fmt::format("broken JSON: {}", simdjson::error_message(error));
}

}  // namespace

struct DocumentParser::Impl {
  simdjson::dom::parser parser;
  std::int64_t surrogates = 0;

  simdjson::error_code parse(std::string_view line, simdjson::dom::element& document) {
    const auto error = parser.parse(line.data(), line.size(), false).get(document);
    if (error == simdjson::MEMALLOC) throw std::bad_alloc();
    return error;
  }
  /// The document of one line; or, with `cause` filled, nothing.
  std::string_view text_of(std::span<char> line, std::string& cause);
};

// The whole object is parsed, not only the field: a line that is broken behind its text is broken.
std::string_view DocumentParser::Impl::text_of(std::span<char> line, std::string& cause) {
  const std::string_view whole(line.data(), line.size());
  simdjson::dom::element document;
  JsonRepair repair;
  auto error = parse(whole, document);
  if (error != simdjson::SUCCESS && error != simdjson::UTF8_ERROR && error != simdjson::CAPACITY) {
    repair = repair_json(line);
    error = parse(whole, document);
  }
  std::string_view text;
  simdjson::dom::object object;
  if (error != simdjson::SUCCESS) {
    cause = broken_json(whole, error);
  } else if (repair.not_a_number) {
    cause = "it holds NaN or Infinity, which Python's json writes but JSON does not have; write null in its place";
  } else if (document.is_array()) {
    cause = array_not_object;
  } else if (document.get(object) != simdjson::SUCCESS) {
    cause = "not a JSON object; expected {\"text\": \"...\"}";
  } else {
    bool found = false;
    for (const auto field : object) {
      if (field.key == "text") found = field.value.get(text) == simdjson::SUCCESS;
    }
    if (!found) cause = "no string under \"text\"";
    surrogates += found ? repair.surrogates : 0;
  }
  return text;
}

DocumentParser::DocumentParser() : impl_(std::make_unique<Impl>()) {}
DocumentParser::~DocumentParser() = default;

std::int64_t DocumentParser::parse(TextBlock& block, const CorpusFile& file,
                                   const std::function<void(std::string_view)>& piece,
                                   const std::function<void(std::string)>& bad) {
  auto rest = block.text();
  impl_->surrogates = 0;
  if (block.format == CorpusFormat::text) {
    if (const auto at = invalid_utf8_at(rest)) {
      const auto line = block.first_line + static_cast<std::uint64_t>(std::count(
                                               rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(*at), '\n'));
      bad(fmt::format("{}, line {} (byte {}): {}", file.path.string(), line, block.first_byte + *at,
                      not_utf8(rest, *at)));
    } else {
      if (block.begins_document && file.format == CorpusFormat::text) drop_byte_order_mark(rest);
      piece(rest);
    }
    return 0;
  }
  for (auto number = block.first_line; !rest.empty(); ++number) {
    const auto end = std::min(rest.find('\n'), rest.size() - 1) + 1;
    auto line = rest.substr(0, end);
    rest.remove_prefix(end);
    drop_byte_order_mark(line);  // at the start of a file, or of one that was put behind another
    if (blank(line)) continue;
    std::string cause;
    const auto text = impl_->text_of({block.storage.data() + (line.data() - block.storage.data()), line.size()}, cause);
    if (cause.empty()) {
      piece(text);
    } else {
      bad(fmt::format("{}, line {}: {}", file.path.string(), number, cause));
    }
  }
  return impl_->surrogates;
}

}  // namespace lexring
