/// The frame of a report: head, style sheet, body.
#pragma once

#include <string>

namespace lexring {

/// A whole document. `title` is escaped here, `body` is not.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace lexring
