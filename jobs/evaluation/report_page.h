/// The frame of a report: head, style sheet, body.
#pragma once

#include <string>

namespace lexring {

/// A whole document; `style` is added to that of every page. `title` is escaped here, `body` is not.
std::string html_page(const std::string& title, const std::string& style, const std::string& body);

/// How a table of losses with so many columns becomes one block per row, where the page is too narrow for it, on paper,
/// or always.
std::string stacked_table_style(int columns);

}  // namespace lexring
