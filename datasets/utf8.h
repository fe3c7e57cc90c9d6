/// Is it text?
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace lexring {

/// Byte offset of the first thing in `text` that is not UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing
/// above U+10FFFF), if any.
std::optional<std::size_t> invalid_utf8_at(std::string_view text);

/// The length of `text` without a character that its end cuts in two: where a stream of text may be parted.
std::size_t whole_characters(std::string_view text);

}  // namespace lexring
