/// A table of shares as coloured cells, as SVG: the darker, the larger, with the number in it. Colours are those of
/// figure.h, so that one drawing serves light, dark and print.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lexring {

struct HeatCell {
  std::optional<double> share;  ///< 0 to 1; none: not measured, drawn empty
  std::string title;            ///< shown when the pointer rests on it
};

struct HeatMap {
  std::string description;  ///< for screen readers
  std::string x_label, y_label;
  std::vector<std::string> columns, rows;
  std::vector<std::vector<HeatCell>> cells;  ///< [rows][columns]
  double width = 560;
};

/// An <svg> element that scales with its container.
std::string to_svg(const HeatMap& map);

}  // namespace lexring
