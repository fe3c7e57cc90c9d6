/// What reports are made of: head, style sheet, body; cards with figures, lists of facts.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "jobs/evaluation/figure.h"

namespace lexring {

/// A whole document; `style` is added to that of every page. `title` is escaped here, `body` is not.
std::string html_page(const std::string& title, const std::string& style, const std::string& body);

/// How a table of losses with so many columns becomes one block per row, where the page is too narrow for it, on paper,
/// or always.
std::string stacked_table_style(int columns);

/// A figure with its title and caption, both escaped here.
std::string card(const std::string& title, const std::string& svg, const std::string& caption);
/// A figure as wide as the page, and the same for a narrow one and for paper; the style sheet shows one of them.
std::string at_both_widths(Figure figure);

/// Names and values, for people; "Command" gets a line of its own.
using Facts = std::vector<std::pair<std::string, std::string>>;
std::string facts_list(const Facts& facts);

}  // namespace lexring
