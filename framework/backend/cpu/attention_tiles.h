/// What the forward and backward kernels of block attention share: tiles, masks as ranges of columns, rotated and rebased rows.
///
/// Scores are kept in base 2: the factor scale * log2(e) sits on the rotated query, so that softmax needs exp2 only.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/attention/block.h"
#include "framework/backend/cpu/simd.h"

namespace lexring::cpu {

inline constexpr std::int64_t query_tile = 96;
inline constexpr std::int64_t key_tile = 256;
inline constexpr float log2_e = 1.44269504F;
inline constexpr float ln_2 = 0.69314718F;

/// Per row and channel pair, [N, E/2] f32: cos and sin times the decay within the row's tile (and times the score scale for queries).
struct RowFactors {
  Tensor cosine, sine;
};

/// One side of a block, cut into tiles.
struct Side {
  std::vector<TokenTile> tiles;
  std::vector<std::int64_t> first_tile;  ///< [sequences + 1] tiles of a sequence: first_tile[s] .. first_tile[s + 1]
  RowFactors factors;                    ///< undefined without rotation
};
enum class Role { query, key };
Side make_side(const AttentionSpec& spec, const TokenTable& tokens, const RotaryTable& rotary, Role role, Runtime& runtime);

/// The keys a query row sees, as rows of the key table: [first, last) and [sink_first, sink_last).
struct RowRange {
  std::int32_t first, last, sink_first, sink_last;
};
/// [N] ranges, and per query sequence the index of the key sequence of the same id (-1: none).
struct Ranges {
  std::vector<RowRange> rows;
  std::vector<std::int64_t> key_sequence;
};
Ranges make_ranges(const AttentionForward& call);
Ranges make_ranges(const AttentionBackward& call);

/// How a tile of queries meets a tile of keys.
struct TileMask {
  bool any;          ///< some row sees some key
  bool all;          ///< every row sees every key
  std::int64_t first_column, last_column;  ///< what lies outside is seen by nobody
};
TileMask make_mask(const RowRange* rows, const TokenTile& queries, const TokenTile& keys);

/// factors [E/2] = exp(log_decay * distance), for the rows of a tile (distance from its base) and for a pair of tiles (a - d). With decay only.
void pair_factors(const AttentionSpec& spec, std::int64_t distance, float* factors);

/// out [count, width] f32 = rows of x (columns `first` on) rotated and scaled by their factors; without rotation, times `scale`.
template <class T>
void rotate_rows(const T* x, std::int64_t x_stride, const RowFactors& factors, std::int64_t row, std::int64_t count, std::int64_t width,
                 float scale, float* out, std::int64_t out_stride);
/// The adjoint: g [count, width] f32, in the tile's base, back to the frame of x.
template <class T>
void rotate_rows_back(const float* g, std::int64_t g_stride, const RowFactors& factors, std::int64_t row, std::int64_t count,
                      std::int64_t width, float scale, T* out, std::int64_t out_stride);

/// rows [count, width] *= factors per channel pair, into `out`.
void scale_pairs(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t width, const float* factors, float* out,
                 std::int64_t out_stride);

}  // namespace lexring::cpu
