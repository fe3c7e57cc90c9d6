/// Both sides of a block of attention cut into tiles, and which keys each query sees as ranges of rows: what kernels of
/// any device start from.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/attention/call.h"

namespace lexring {

/// A tile: rows [first, first + count) of one sequence.
struct TokenTile {
  std::int64_t sequence;  ///< index into TokenTable::sequences
  std::int64_t first;
  std::int64_t count;
};

/// The span of `span` positions that a row's coordinate is in: [i, i + 1) times this number.
std::int64_t span_of(const TokenTable& tokens, std::int64_t row, std::int64_t span);

/// Cuts rows into tiles of at most `largest` tokens, none of which lies on both sides of a multiple of `span`
/// positions. A pure function: every rank that knows the table gets the same tiles.
std::vector<TokenTile> make_tiles(const TokenTable& tokens, std::int64_t largest, std::int64_t span);

/// Decay goes over position - base for queries, over base - position for keys.
enum class AttentionRole { query, key };

/// One side of a block, cut into tiles.
struct Tiling {
  std::vector<TokenTile> tiles;
  std::vector<std::int64_t> first_tile;  ///< [sequences + 1] tiles of a sequence: first_tile[s] .. first_tile[s + 1]
  std::vector<std::int64_t> base;        ///< per tile, the position that its decay is counted from; 0 without decay
};

/// Tiles of at most `largest` tokens, cut and based by decay_span(). A pure function: calls with the same table have
/// the same tiles, and both sides of a call the same bases.
Tiling make_tiling(const AttentionForm& form, const TokenTable& tokens, std::int64_t largest);

/// The keys a query row sees, as rows of the key table: [first, last) and [sink_first, sink_last).
struct RowRange {
  std::int32_t first, last, sink_first, sink_last;
};

struct Ranges {
  std::vector<RowRange> rows;   ///< [N]
  std::vector<RowRange> tiles;  ///< per tile of queries, the hull of its rows
  std::vector<std::int64_t>
      key_sequence;  ///< per query sequence, the index of the key sequence of the same id (-1: none)
};
Ranges make_ranges(const TokenTable& queries, const TokenTable& keys, const Visibility& visible,
                   const Tiling& query_tiling);

}  // namespace lexring
