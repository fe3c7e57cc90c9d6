/// The mesh of processes: axes dp x cp x tp, as arithmetic. tp varies fastest (it stays inside a node), then cp, then
/// dp.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace lexring {

enum class Axis { dp, cp, tp };
inline constexpr std::array axes = {Axis::dp, Axis::cp, Axis::tp};
constexpr std::string_view name_of(Axis axis) {
  constexpr std::string_view names[] = {"dp", "cp", "tp"};
  return names[static_cast<int>(axis)];
}

struct Mesh {
  std::array<int, 3> sizes = {1, 1, 1};  ///< by Axis
  int ulysses = 1;  ///< cp = ring x ulysses; ulysses varies fastest, so that it stays inside a node

  int size(Axis axis) const { return sizes[static_cast<int>(axis)]; }
  int ranks() const { return sizes[0] * sizes[1] * sizes[2]; }
  /// The coordinate of a rank on an axis.
  int coordinate(int rank, Axis axis) const;
  int ring() const { return size(Axis::cp) / ulysses; }
  std::string describe() const;  ///< "dp 2 x cp 4 x tp 1", with ulysses "dp 2 x cp 4 (ring 2 x ulysses 2) x tp 1"
};

/// A mesh over `ranks` processes; a dp of 0 is what is left. Throws UsageError when the sizes do not multiply to
/// `ranks` or ulysses does not divide cp, saying what would.
Mesh make_mesh(int ranks, std::int64_t dp, std::int64_t cp, std::int64_t tp, std::int64_t ulysses = 1);

}  // namespace lexring
