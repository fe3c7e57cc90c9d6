/// In which order the blocks of a persistent kernel take tiles of queries. A pure function of the block: no counter in
/// memory, and the same blocks compute the same tiles every time.
///
/// Heads are taken so many at a time that their keys and values stay in the L2 cache, which blocks read them from.
/// Among these, tiles are taken by how many keys they meet (causal: by their number), falling and rising in turns so
/// that there is no jump where the next heads begin, and falling at the end: what is left then is short. Every second
/// round goes through the blocks backwards, so that no block has the longest tile of every round.
#pragma once

#include <algorithm>
#include <cstdint>

namespace lexring::cuda::hopper {

struct Schedule {
  int tiles;          ///< of queries, those with most keys to meet last
  int heads;          ///< query heads
  int heads_at_once;  ///< divides them

  constexpr int tasks() const { return tiles * heads; }
};

struct Task {
  int tile, head;
  constexpr bool operator==(const Task&) const = default;
};

constexpr Task task_at(const Schedule& s, int n) {
  const int sections = s.heads / s.heads_at_once, of_section = s.tiles * s.heads_at_once;
  const int section = n / of_section, i = n % of_section, tile = i / s.heads_at_once;
  const bool falling = (sections - 1 - section) % 2 == 0;
  return {falling ? s.tiles - 1 - tile : tile, section * s.heads_at_once + i % s.heads_at_once};
}

/// The task that `block` of `blocks` has in a round, if it is one of tasks().
constexpr int task_of_round(int round, int block, int blocks) {
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

/// The most query heads, in whole groups of one key head, whose keys and values fit half of an H100's L2 cache (50 MB
/// in all) and that divide all heads.
constexpr int heads_at_once(std::int64_t key_rows, int width, int heads, int group) {
  const std::int64_t fit = (std::int64_t{25} << 20) / std::max<std::int64_t>(4 * key_rows * width, 1);
  const int key_heads = heads / group;
  int at_once = static_cast<int>(std::clamp<std::int64_t>(fit, 1, key_heads));
  while (key_heads % at_once != 0) --at_once;
  return at_once * group;
}

}  // namespace lexring::cuda::hopper
