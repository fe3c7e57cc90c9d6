/// Line charts as SVG, without any library. Colours are CSS classes, so that one drawing serves light, dark and print.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lexring {

struct FigurePoint {
  double x = 0, y = 0;
  double error = 0;          ///< half the error bar; 0 or NaN: none
  std::string title;         ///< shown when the pointer rests on it; empty: no marker
  double error_below = NAN;  ///< where the bar reaches another way down than up
};

enum class Stroke { bold, plain, faint };

struct FigureLine {
  std::string name;  ///< at the right end of the line, or in a legend; empty: none
  int colour = 0;    ///< 0 .. 5; shape of the markers too, for those who see no colours
  Stroke stroke = Stroke::bold;
  int dash = 0;      ///< 0 .. 3; a line shows through the gaps of one that lies on it
  double shift = 0;  ///< to the right, so that points and error bars that coincide stand side by side
  std::vector<FigurePoint>
      points;         ///< by x; a point that is not finite breaks the line and is marked at the upper edge
  bool band = false;  ///< errors as an area behind the line, not as bars
};

struct FigureTick {
  double x = 0;
  std::string label, below;  ///< `below` is a second, smaller line
};

/// `symlog` is linear around 0 and logarithmic beyond Figure::linear_to, on both sides.
enum class Scale { linear, log2, symlog };

struct Figure {
  std::string description;  ///< for screen readers
  std::string x_label, y_label;
  Scale x_scale = Scale::linear, y_scale = Scale::linear;
  double linear_to = 1;             ///< of symlog; a power of ten
  std::vector<FigureTick> x_ticks;  ///< empty: chosen from the data
  std::optional<double> mark_x;     ///< a dashed vertical line
  std::string mark_label;
  std::vector<double> y_includes;  ///< what the axis shows besides the lines
  std::vector<FigureLine> lines;
  double width = 720, height = 400;  ///< without a legend, which is used where names have no room beside their lines
};

/// An <svg> element that scales with its container. Its colours come from figure_style() or from the page.
std::string to_svg(const Figure& figure);
/// A file of its own: with style, name space and a background, so that it reads on any page.
std::string to_svg_file(const Figure& figure);
/// CSS variables of light and dark, and the classes that use them.
std::string figure_style();

std::string escape(const std::string& text);  ///< for HTML and XML
/// "512", "4,096", "64k", "1M" (binary).
std::string short_length(std::int64_t length);
/// Round numbers that cover [low, high], about `wanted` of them.
std::vector<double> round_ticks(double low, double high, int wanted);

}  // namespace lexring
