/// Unicode normalisation forms, as tokenizers ask for them before they cut text into words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lexring {

enum class UnicodeForm { nfc, nfd, nfkc, nfkd };

/// "NFC", "NFD", "NFKC", "NFKD".
std::optional<UnicodeForm> unicode_form(std::string_view name);
/// `text` (UTF-8) in that form.
std::string in_form(std::string_view text, UnicodeForm form);

}  // namespace lexring
