/// How the ranks of a group share attention heads, over tp as over ulysses: query heads evenly; key heads, each with
/// its value head, evenly, or, where ranks outnumber them, each held by several ranks.
#pragma once

#include <cstdint>

#include "framework/attention/form.h"

namespace lexring {

/// Whether they can: `ranks` divides the query heads, and divides the key heads or is a multiple of them.
bool heads_fit(std::int64_t heads, std::int64_t kv_heads, std::int64_t ranks);

/// Key heads of each rank.
std::int64_t kv_heads_of_rank(std::int64_t kv_heads, std::int64_t ranks);
/// The parts that key heads are cut into: as many as ranks, or, where there are fewer heads than ranks, one per head.
int kv_head_parts(std::int64_t kv_heads, int ranks);

/// What one rank has: query heads [first, first + heads), and key heads [kv_first, kv_first + kv_heads), which they
/// read.
struct HeadShare {
  std::int64_t first, heads;
  std::int64_t kv_first, kv_heads;
};
/// Of the heads of `whole`, which must fit.
HeadShare head_share(const AttentionForm& whole, int rank, int ranks);
/// `whole` with these heads alone.
AttentionForm form_of(AttentionForm whole, const HeadShare& share);

}  // namespace lexring
