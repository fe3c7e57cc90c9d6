#include "datasets/json_repair.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>

namespace lexring {
namespace {

constexpr std::size_t escape_length = 6;  ///< "\ud800"

bool digit(char c) { return c >= '0' && c <= '9'; }

/// The number of "\uXXXX" at `at`; 0 if there is no such thing.
unsigned code_at(std::string_view text, std::size_t at) {
  unsigned code = 0;
  const auto escape = text.substr(std::min(at, text.size()), escape_length);
  if (escape.size() < escape_length || !escape.starts_with("\\u")) return 0;
  const auto [end, error] = std::from_chars(escape.data() + 2, escape.data() + escape_length, code, 16);
  return error == std::errc() && end == escape.data() + escape_length ? code : 0;
}

bool high(unsigned code) { return code >= 0xd800 && code <= 0xdbff; }
bool low(unsigned code) { return code >= 0xdc00 && code <= 0xdfff; }

/// From an opening quote; returns the place behind the closing one.
std::size_t repair_string(std::span<char> line, std::size_t at, JsonRepair& repair) {
  const std::string_view text(line.data(), line.size());
  for (++at; at < text.size() && text[at] != '"';) {
    const auto code = code_at(text, at);
    if (high(code) && low(code_at(text, at + escape_length))) {
      at += 2 * escape_length;
    } else if (high(code) || low(code)) {
      std::copy_n("fffd", 4, line.begin() + static_cast<std::ptrdiff_t>(at) + 2);
      ++repair.surrogates;
      at += escape_length;
    } else {
      at += text[at] == '\\' ? 2 : 1;
    }
  }
  return at + 1;
}

/// RFC 8259: -? (0 | 1-9 digits) (. digits)? (e sign? digits)?
bool is_number(std::string_view text) {
  const auto digits = [&] {
    const auto count = std::find_if_not(text.begin(), text.end(), digit) - text.begin();
    text.remove_prefix(static_cast<std::size_t>(count));
    return count;
  };
  const auto take = [&](std::string_view any) {
    const bool there = !text.empty() && any.find(text.front()) != std::string_view::npos;
    if (there) text.remove_prefix(1);
    return there;
  };
  take("-");
  if (!take("0") && digits() == 0) return false;
  if (take(".") && digits() == 0) return false;
  if (take("eE")) {
    take("+-");
    if (digits() == 0) return false;
  }
  return text.empty();
}

void repair_scalar(std::span<char> scalar, JsonRepair& repair) {
  const std::string_view text(scalar.data(), scalar.size());
  const bool not_a_number = text == "NaN" || text == "Infinity" || text == "-Infinity";
  if (!not_a_number && !is_number(text)) return;
  repair.not_a_number |= not_a_number;
  std::fill(scalar.begin(), scalar.end(), ' ');
  scalar.front() = '0';
}

}  // namespace

JsonRepair repair_json(std::span<char> line) {
  const auto in_scalar = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '+' || c == '.';
  };
  JsonRepair repair;
  for (std::size_t at = 0; at < line.size();) {
    if (line[at] == '"') {
      at = repair_string(line, at, repair);
      continue;
    }
    const auto rest = line.subspan(at);
    const auto length = static_cast<std::size_t>(std::find_if_not(rest.begin(), rest.end(), in_scalar) - rest.begin());
    if (length > 0) repair_scalar(rest.first(length), repair);
    at += std::max<std::size_t>(length, 1);
  }
  return repair;
}

}  // namespace lexring
