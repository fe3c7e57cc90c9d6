/// The mesh of processes: axes dp x cp x tp, as arithmetic. tp varies fastest (it stays inside a node), then cp, then
/// dp.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lexring {

enum class Axis { dp, cp, tp };

struct AxisRow {
  Axis axis;
  std::string_view name;  ///< of its group, and of its key, mesh.NAME
  bool replicates;        ///< its ranks hold the same parameters, for other tokens each
};
/// All axes, the slowest first, in the order of Axis. What is done with every axis (sizes, coordinates, groups,
/// messages) follows from this table.
inline constexpr std::array axis_rows = {
    AxisRow{Axis::dp, "dp", true},
    AxisRow{Axis::cp, "cp", true},
    AxisRow{Axis::tp, "tp", false},
};
inline constexpr auto axes = [] {
  std::array<Axis, axis_rows.size()> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = axis_rows[i].axis;
  return all;
}();
constexpr std::string_view name_of(Axis axis) { return axis_rows[static_cast<std::size_t>(axis)].name; }

struct Mesh {
  std::array<int, axes.size()> sizes = [] {  ///< by Axis
    std::array<int, axes.size()> ones{};
    ones.fill(1);
    return ones;
  }();
  int ulysses = 1;  ///< cp = ring x ulysses; ulysses varies fastest, so that it stays inside a node

  int size(Axis axis) const { return sizes[static_cast<std::size_t>(axis)]; }
  int ranks() const;
  /// The coordinate of a rank on an axis.
  int coordinate(int rank, Axis axis) const;
  /// Ranks whose coordinates differ on the axes `within` alone form a group: the number of the rank's.
  int group_of(int rank, const std::vector<Axis>& within) const;
  int ring() const { return size(Axis::cp) / ulysses; }
  std::string describe() const;  ///< "dp 2 x cp 4 x tp 1", with ulysses "dp 2 x cp 4 (ring 2 x ulysses 2) x tp 1"
};

/// A mesh over `ranks` processes; a dp of 0 is what is left. Throws UsageError when the sizes do not multiply to
/// `ranks` or ulysses does not divide cp, saying what would.
Mesh make_mesh(int ranks, std::int64_t dp, std::int64_t cp, std::int64_t tp, std::int64_t ulysses = 1);

}  // namespace lexring
