#include "jobs/evaluation/figure.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "jobs/evaluation/tables.h"

namespace lexring {
namespace {

constexpr double left = 62, top = 26, bottom = 58, label_gap = 17, legend_gap = 20;
constexpr double sample = 30;  // the piece of a line in front of its name

/// What a name takes, with its sample; text is not measured, so the widths are those of a wide font.
double width_of(const std::string& name) {
  return name.empty() ? 0 : sample + 18 + 7.6 * static_cast<double>(name.size());
}

double widest_name(const Figure& figure) {
  double most = 0;
  for (const FigureLine& line : figure.lines) most = std::max(most, width_of(line.name));
  return most;
}
bool has_legend(const Figure& figure) { return widest_name(figure) > 0.32 * figure.width; }

/// Places of a legend's entries, from the left of its first row.
std::vector<std::pair<double, double>> legend_places(const Figure& figure) {
  std::vector<std::pair<double, double>> places;
  double x = 0, y = 0;
  for (const FigureLine& line : figure.lines) {
    if (x > 0 && x + width_of(line.name) > figure.width - left) x = 0, y += legend_gap;
    places.emplace_back(x, y);
    x += width_of(line.name);
  }
  return places;
}

double height_of(const Figure& figure) {
  return figure.height + (has_legend(figure) ? legend_places(figure).back().second + legend_gap : 0);
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

double error_above(const FigurePoint& p) { return std::isfinite(p.error) ? p.error : 0; }
double error_below(const FigurePoint& p) { return std::isfinite(p.error_below) ? p.error_below : error_above(p); }

/// From data to places on the page.
class Axes {
 public:
  explicit Axes(const Figure& figure)
      : figure_(figure),
        right_(figure.width - (has_legend(figure) ? 14 : std::max(14.0, widest_name(figure)))),
        base_(figure.height - bottom) {
    for (const FigureLine& line : figure.lines) {
      for (const FigurePoint& p : line.points) {
        x_.add(scaled(p.x));
        y_.add(scaled_y(p.y - error_below(p)));
        y_.add(scaled_y(p.y + error_above(p)));
      }
    }
    if (figure.mark_x) x_.add(scaled(*figure.mark_x));
    for (const double y : figure.y_includes) y_.add(scaled_y(y));
    if (x_.empty()) x_ = {0, 1};
    if (y_.empty()) y_ = {0, 1};
    if (x_.high == x_.low) x_ = {x_.low - 0.5, x_.high + 0.5};
    if (figure.y_scale == Scale::symlog) {
      choose_symlog_ticks();
    } else {
      const double least = std::max(std::abs(y_.high) * 0.02, 1e-9);  // a flat line stays flat
      if (y_.high - y_.low < least) y_ = {(y_.low + y_.high - least) / 2, (y_.low + y_.high + least) / 2};
      y_ticks_ = round_ticks(y_.low, y_.high, 6);
      y_ = {std::min(y_.low, y_ticks_.front()), std::max(y_.high, y_ticks_.back())};
    }
    const double margin = figure.x_scale == Scale::log2 ? 0.03 * (x_.high - x_.low) : 0;
    x_ = {x_.low - margin, x_.high + margin};
  }

  double x(double value) const { return left + (scaled(value) - x_.low) / (x_.high - x_.low) * (right_ - left); }
  double y(double value) const { return base_ - (scaled_y(value) - y_.low) / (y_.high - y_.low) * (base_ - top); }
  double right() const { return right_; }
  double base() const { return base_; }
  const std::vector<double>& y_ticks() const { return y_ticks_; }

  std::vector<FigureTick> x_ticks() const {
    if (!figure_.x_ticks.empty()) return figure_.x_ticks;
    std::vector<FigureTick> ticks;
    if (figure_.x_scale == Scale::log2) {
      for (double e = std::ceil(x_.low); e <= x_.high; e += 1)
        ticks.push_back({std::exp2(e), short_length(std::llround(std::exp2(e))), ""});
    } else {
      for (const double value : round_ticks(x_.low, x_.high, 6)) {
        if (value >= x_.low && value <= x_.high) ticks.push_back({value, with_commas(std::llround(value)), ""});
      }
    }
    return ticks;
  }

 private:
  double scaled_y(double y) const { return figure_.y_scale == Scale::symlog ? std::asinh(y / figure_.linear_to) : y; }

  /// 0 and the powers of ten from linear_to on, on the sides that have data, up to the first one beyond them.
  void choose_symlog_ticks() {
    y_ticks_ = {0};
    for (const double side : {-1.0, 1.0}) {
      const double end = side < 0 ? -y_.low : y_.high;
      for (double tick = figure_.linear_to; end > 0; tick *= 10) {
        y_ticks_.push_back(side * tick);
        if (scaled_y(tick) >= end) break;
      }
    }
    std::sort(y_ticks_.begin(), y_ticks_.end());
    y_ = {std::min(y_.low, scaled_y(y_ticks_.front())), std::max(y_.high, scaled_y(y_ticks_.back()))};
  }

  double scaled(double x) const { return figure_.x_scale == Scale::log2 ? std::log2(std::max(x, 1e-9)) : x; }

  const Figure& figure_;
  Range x_, y_;
  double right_, base_;
  std::vector<double> y_ticks_;
};

std::string text_at(double x, double y, const char* css, const char* anchor, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, css, anchor,
                     escape(text));
}

std::string line_at(double x1, double y1, double x2, double y2, const std::string& css) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2,
                     css);
}

std::string draw_axes(const Figure& figure, const Axes& axes) {
  std::string svg;
  const auto& ticks = axes.y_ticks();
  const double step = ticks.size() > 1 ? ticks[1] - ticks[0] : 1;
  int digits = 0;
  for (double scaled = step; digits < 8 && std::abs(scaled - std::round(scaled)) > 1e-6 * scaled; scaled *= 10)
    ++digits;
  for (const double tick : ticks) {
    svg += line_at(left, axes.y(tick), axes.right(), axes.y(tick), tick == 0 ? "f-axis" : "f-grid");
    const std::string label =
        figure.y_scale == Scale::symlog ? fmt::format("{:+g}", tick) : format_number(tick + 0.0, digits);
    svg += text_at(left - 9, axes.y(tick) + 4, "f-tick", "end", tick == 0 ? "0" : label);
  }
  svg += line_at(left, axes.base(), axes.right(), axes.base(), "f-axis");
  double free_from = -1e9;
  for (const FigureTick& tick : axes.x_ticks()) {
    const double x = axes.x(tick.x);
    svg += line_at(x, axes.base(), x, axes.base() + 4, "f-axis");
    const double half = 3.6 * static_cast<double>(std::max<std::size_t>(tick.label.size(), 3)) + 3;
    if (x - half < free_from) continue;
    free_from = x + half;
    svg += text_at(x, axes.base() + 18, "f-tick", "middle", tick.label);
    if (!tick.below.empty()) svg += text_at(x, axes.base() + 31, "f-small", "middle", tick.below);
  }
  svg += text_at((left + axes.right()) / 2, figure.height - 8, "f-label", "middle", figure.x_label);
  svg += text_at(10, 14, "f-label", "start", figure.y_label);
  if (figure.mark_x) {
    const double x = axes.x(*figure.mark_x);
    const bool leftwards = x > (left + axes.right()) / 2;
    svg += line_at(x, top, x, axes.base(), "f-mark");
    svg += text_at(x + (leftwards ? -6 : 6), top + 11, "f-small", leftwards ? "end" : "start", figure.mark_label);
  }
  return svg;
}

/// Markers differ in shape, so that lines are told apart without colour.
std::string marker(int colour, double x, double y) {
  switch (colour % 6) {
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"8\" height=\"8\"/>", x - 4, y - 4);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 9h-10z\"/>", x, y - 6);
    case 3:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z\"/>", x, y - 5.5);
    case 4:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 -9h-10z\"/>", x, y + 6);
    case 5:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"5\" height=\"11\"/>", x - 2.5, y - 5.5);
    default:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\"/>", x, y);
  }
}

/// From the lower ends of the errors to the upper ones, over the points that are finite.
std::string draw_band(const FigureLine& line, const Axes& axes) {
  std::string there, back;
  for (const FigurePoint& p : line.points) {
    if (!std::isfinite(p.y)) continue;
    const double x = axes.x(p.x) + line.shift;
    there += fmt::format("{}{:.1f} {:.1f}", there.empty() ? "M" : "L", x, axes.y(p.y + error_above(p)));
    back = fmt::format("L{:.1f} {:.1f}", x, axes.y(p.y - error_below(p))) + back;
  }
  return there.empty() ? "" : fmt::format("<path class=\"f-band\" d=\"{}{}Z\"/>\n", there, back);
}

std::string draw_line(const FigureLine& line, const Axes& axes) {
  constexpr const char* strokes[] = {"f-bold", "f-plain", "f-faint"};
  std::string path, over;
  bool pen_down = false;
  for (const FigurePoint& p : line.points) {
    const double x = axes.x(p.x) + line.shift;
    if (!std::isfinite(p.y)) {
      pen_down = false;
      over += fmt::format(
          "<g class=\"f-dot\"><title>{}</title><text x=\"{:.1f}\" y=\"{:.1f}\" class=\"f-broken\" "
          "text-anchor=\"middle\">×</text></g>\n",
          escape(p.title), x, top + 4);
      continue;
    }
    const double y = axes.y(p.y);
    path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x, y);
    pen_down = true;
    const double above = error_above(p), below = error_below(p);
    if (!line.band && (above > 0 || below > 0)) {
      over +=
          fmt::format("<path class=\"f-error\" d=\"M{0:.1f} {1:.1f}V{2:.1f}M{3:.1f} {1:.1f}h7M{3:.1f} {2:.1f}h7\"/>\n",
                      x, axes.y(p.y + above), axes.y(p.y - below), x - 3.5);
    }
    if (!p.title.empty())
      over += fmt::format("<g class=\"f-dot\"><title>{}</title>{}</g>\n", escape(p.title), marker(line.colour, x, y));
  }
  return fmt::format("<g class=\"c{}\">\n{}<path class=\"f-line {} d{}\" d=\"{}\"/>\n{}</g>\n", line.colour % 6,
                     line.band ? draw_band(line, axes) : "", strokes[static_cast<int>(line.stroke)], line.dash % 4,
                     path, over);
}

/// A piece of the line as it is drawn, and its name.
std::string draw_name(const FigureLine& line, double x, double y) {
  return fmt::format(
      "<g class=\"c{0}\"><path class=\"f-line f-bold d{1}\" d=\"M{2:.1f} {3:.1f}h{4:.0f}\"/><g "
      "class=\"f-dot\">{5}</g><text x=\"{6:.1f}\" y=\"{7:.1f}\" class=\"f-name\">{8}</text></g>\n",
      line.colour % 6, line.dash % 4, x, y, sample - 6, marker(line.colour, x + (sample - 6) / 2, y), x + sample, y + 4,
      escape(line.name));
}

/// Names at the right ends of their lines, moved apart where lines end together.
std::string draw_names(const Figure& figure, const Axes& axes) {
  struct Name {
    double wanted, y;
    const FigureLine* line;
  };
  std::vector<Name> names;
  for (const FigureLine& line : figure.lines) {
    if (line.name.empty()) continue;
    double y = top + 4;
    for (const FigurePoint& p : line.points) {
      if (std::isfinite(p.y)) y = axes.y(p.y);
    }
    names.push_back({y, y, &line});
  }
  std::stable_sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.wanted < b.wanted; });
  for (std::size_t i = 0; i < names.size(); ++i)
    names[i].y = i == 0 ? names[i].wanted : std::max(names[i].wanted, names[i - 1].y + label_gap);
  // Pushed down below the plot: push back up from there.
  for (std::size_t i = names.size(); i-- > 0;) {
    const double limit = i + 1 == names.size() ? axes.base() : names[i + 1].y - label_gap;
    names[i].y = std::min(names[i].y, limit);
  }
  std::string svg;
  for (const Name& name : names) svg += draw_name(*name.line, axes.right() + 10, name.y);
  return svg;
}

std::string draw_legend(const Figure& figure) {
  const auto places = legend_places(figure);
  std::string svg;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (!figure.lines[i].name.empty())
      svg += draw_name(figure.lines[i], left + places[i].first, figure.height + 6 + places[i].second);
  }
  return svg;
}

std::string drawing(const Figure& figure) {
  const Axes axes(figure);
  std::string svg = draw_axes(figure, axes);
  for (const FigureLine& line : figure.lines) svg += draw_line(line, axes);
  return svg + (has_legend(figure) ? draw_legend(figure) : draw_names(figure, axes));
}

std::string label(const Figure& figure) {
  return fmt::format("role=\"img\" aria-label=\"{}\"", escape(figure.description));
}

}  // namespace

std::string to_svg(const Figure& figure) {
  return fmt::format("<svg class=\"figure\" viewBox=\"0 0 {:.0f} {:.0f}\" {}>\n{}</svg>\n", figure.width,
                     height_of(figure), label(figure), drawing(figure));
}

std::string to_svg_file(const Figure& figure) {
  constexpr double margin = 16;
  const double width = figure.width + 2 * margin, height = height_of(figure) + 2 * margin;
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"figure\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"{2:.0f} {2:.0f} {0:.0f} {1:.0f}\" {3}>\n"
      "<style>\n{4}</style>\n<rect class=\"f-paper\" x=\"{5}\" y=\"{5}\" width=\"{6:.0f}\" height=\"{7:.0f}\" "
      "rx=\"8\"/>\n{8}</svg>\n",
      width, height, -margin, label(figure), figure_style(), 0.5 - margin, width - 1, height - 1, drawing(figure));
}

// Okabe and Ito's colours, told apart with every kind of colour vision, darkened or lightened to contrast 4.5 with the
// paper.
std::string figure_style() {
  return R"(:root, svg { --paper: #ffffff; --ink: #1c2430; --soft: #5b6675; --rule: #e6e9ee; --axis: #9aa4b1;
  --c0: #0067a5; --c1: #c2490a; --c2: #007a5a; --c3: #a23b78; --c4: #8a5f00; --c5: #4a4fb5; }
@media (prefers-color-scheme: dark) { :root, svg { --paper: #161b22; --ink: #e8edf3; --soft: #9fabb9; --rule: #2a323c;
  --axis: #5c6875;
  --c0: #5cb6f5; --c1: #ff935c; --c2: #41cfa3; --c3: #eb9ccb; --c4: #efbf52; --c5: #aab0ff; } }
@media print { :root, svg { --paper: #ffffff; --ink: #000000; --soft: #444444; --rule: #dddddd; --axis: #888888;
  --c0: #0067a5; --c1: #c2490a; --c2: #007a5a; --c3: #a23b78; --c4: #8a5f00; --c5: #4a4fb5; } }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
  .c5 { --c: var(--c5); }
.figure text { font-family: system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif;
  fill: var(--ink); }
.figure .f-paper { fill: var(--paper); stroke: var(--rule); }
.figure .f-grid { stroke: var(--rule); } .figure .f-axis { stroke: var(--axis); }
.figure .f-mark { stroke: var(--soft); stroke-dasharray: 3 4; }
.figure .f-tick { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.figure .f-small { font-size: 11px; fill: var(--soft); } .figure .f-label { font-size: 12px; fill: var(--soft); }
.figure .f-name { font-size: 13px; font-weight: 600; fill: var(--c); }
.figure .f-line { fill: none; stroke: var(--c); stroke-linejoin: round; stroke-linecap: round; }
.figure .f-bold { stroke-width: 2.5; } .figure .f-plain { stroke-width: 1.5; } .figure .f-faint { stroke-width: 1;
  opacity: 0.35; }
.figure .d1 { stroke-dasharray: 9 6; } .figure .d2 { stroke-dasharray: 2 5; } .figure .d3 { stroke-dasharray: 12 5 2 5;
  }
.figure .f-error { fill: none; stroke: var(--c); stroke-width: 1.25; opacity: 0.8; }
.figure .f-band { fill: var(--c); stroke: none; opacity: 0.18; }
.figure .f-dot { fill: var(--c); stroke: var(--paper); stroke-width: 1.5; } .figure .f-dot:hover { stroke: var(--ink); }
.figure .f-broken { font-size: 16px; font-weight: 700; fill: var(--c); stroke: none; }
)";
}

std::string escape(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t')
          safe += c;  // other control characters are not XML
    }
  }
  return safe;
}

std::string short_length(std::int64_t length) {
  constexpr std::int64_t k = 1024, m = k * k;
  if (length >= m && length % m == 0) return fmt::format("{}M", length / m);
  if (length >= 8 * k && length % k == 0) return fmt::format("{}k", length / k);
  return with_commas(length);
}

std::vector<double> round_ticks(double low, double high, int wanted) {
  if (!(high > low)) high = low + 1;
  const double rough = (high - low) / wanted, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double nice : {1.0, 2.0, 2.5, 5.0}) {
    if (nice * power >= rough) {
      step = nice * power;
      break;
    }
  }
  std::vector<double> ticks;
  const auto first = static_cast<std::int64_t>(std::floor(low / step + 1e-9)),
             last = static_cast<std::int64_t>(std::ceil(high / step - 1e-9));
  for (std::int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

}  // namespace lexring
