#include "jobs/evaluation/heat_map.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "jobs/evaluation/figure.h"

namespace lexring {
namespace {

// Numbers contrast at least 3.6 with what they stand on: on half tones, ink in light and paper in dark.
constexpr const char* style = R"(<style>.f-heat { fill: var(--c0); } .f-empty { fill: none; stroke: var(--rule); }
.figure .f-on-pale, .figure .f-on-half, .figure .f-on-full { font-size: 12px; }
.figure .f-on-full { fill: var(--paper); }
@media screen and (prefers-color-scheme: dark) { .figure .f-on-half { fill: var(--paper); } }</style>
)";

constexpr double top = 26, bottom = 44, row_height = 34, gap = 2;

/// Text is not measured: the width is that of a wide font.
double width_of(const std::string& text) { return 7.6 * static_cast<double>(text.size()); }

std::string text_at(double x, double y, const std::string& css, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, css, anchor,
                     escape(text));
}

std::string draw_cell(const HeatCell& cell, double x, double y, double width) {
  const std::string rect = fmt::format("x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"3\"",
                                       x + gap / 2, y + gap / 2, width - gap, row_height - gap);
  const double middle = x + width / 2, base = y + row_height / 2 + 4;
  std::string svg = fmt::format("<g><title>{}</title><rect {} class=\"f-empty\"/>\n", escape(cell.title), rect);
  if (!cell.share) return svg + text_at(middle, base, "f-small", "middle", "n/a") + "</g>\n";
  const double shade = 0.08 + 0.92 * *cell.share;
  svg += fmt::format("<rect {} class=\"f-heat\" fill-opacity=\"{:.3f}\"/>\n", rect, shade);
  return svg +
         text_at(middle, base,
                 shade > 0.8   ? "f-on-full"
                 : shade > 0.6 ? "f-on-half"
                               : "f-on-pale",
                 "middle", fmt::format("{:.0f}", 100 * *cell.share)) +
         "</g>\n";
}

}  // namespace

std::string to_svg(const HeatMap& map) {
  double left = 40;
  for (const std::string& row : map.rows) left = std::max(left, width_of(row) + 14);
  const double cell = (map.width - left) / static_cast<double>(std::max<std::size_t>(map.columns.size(), 1));
  const double base = top + row_height * static_cast<double>(map.rows.size()), height = base + bottom;
  std::string svg = fmt::format(
      "<svg class=\"figure\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n"
      "{}",
      map.width, height, escape(map.description), style);
  svg += text_at(0, 14, "f-label", "start", map.y_label);
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    const double y = top + row_height * static_cast<double>(r);
    svg += text_at(left - 9, y + row_height / 2 + 4, "f-tick", "end", map.rows[r]);
    for (std::size_t c = 0; c < map.columns.size(); ++c)
      svg += draw_cell(map.cells[r][c], left + cell * static_cast<double>(c), y, cell);
  }
  for (std::size_t c = 0; c < map.columns.size(); ++c)
    svg += text_at(left + cell * (static_cast<double>(c) + 0.5), base + 16, "f-tick", "middle", map.columns[c]);
  svg += text_at((left + map.width) / 2, height - 6, "f-label", "middle", map.x_label);
  return svg + "</svg>\n";
}

}  // namespace lexring
