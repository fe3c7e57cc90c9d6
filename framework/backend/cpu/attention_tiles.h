/// What the forward and backward kernels of block attention share: tiles, masks as ranges of columns, rotated and
/// rebased rows.
///
/// Scores are kept in base 2: the factor scale * log2(e) sits on the rotated query, so that softmax needs exp2 only.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "framework/attention/tiling.h"
#include "framework/backend/cpu/simd.h"

namespace lexring::cpu {

constexpr std::int64_t query_tile = 96;
constexpr std::int64_t key_tile = 256;
constexpr std::int64_t strip_width = 64;  // columns; a multiple of every panel of tile_product.h
constexpr std::int64_t no_base = std::numeric_limits<std::int64_t>::min();  ///< of decay, which no tile has
constexpr float log2_e = 1.44269504F;
constexpr float ln_2 = 0.69314718F;

/// Per row and channel pair, [N, E/2] f32: cos and sin times the decay between the row and its base (and times the
/// score scale for queries).
struct RowFactors {
  Tensor cosine, sine;
};

/// One side of a block, cut into tiles, and what its rows are turned and scaled by.
struct Side : Tiling {
  RowFactors factors;  ///< undefined without rotation
};
Side make_side(const AttentionForm& form, const TokenTable& tokens, const RotaryTable& rotary, AttentionRole role,
               Runtime& runtime);

/// Columns [first, last) of a tile of keys and the rows [first, last) of a tile of queries outside of which nobody sees
/// them.
struct Strip {
  std::int64_t first_column, last_column, first_row, last_row;
};

/// How a tile of queries meets a tile of keys: the strips that products are made of. A tile that is seen whole is one
/// strip.
struct TileMask {
  bool all = false;  ///< every row sees every key
  std::int64_t count = 0;
  std::array<Strip, key_tile / strip_width> storage{};

  bool any() const { return count > 0; }
  std::span<const Strip> strips() const { return {storage.data(), static_cast<std::size_t>(count)}; }
  /// From the first to the last column that products read of a row; empty where the row is in no strip.
  std::pair<std::int64_t, std::int64_t> columns(std::int64_t row) const;
};
/// `reach` is the hull of the rows' ranges.
TileMask make_mask(const RowRange* rows, const RowRange& reach, const TokenTile& queries, const TokenTile& keys);

/// factors [E/2] = exp(log_decay * distance), for a row and its base and from a base of keys to one of queries. Without
/// decay nothing is written.
void pair_factors(const AttentionForm& form, double distance, float* factors);

/// scores = cap * tanh(scores / cap), all in base 2, of the rows and columns of a strip; rows of key_tile scores.
void cap_scores(const AttentionForm& form, const Strip& strip, float* scores);

/// out [count, width] f32 = rows of x (columns `first` on) rotated and scaled by their factors; without rotation, times
/// `scale`.
template <class T>
void rotate_rows(const T* x, std::int64_t x_stride, const RowFactors& factors, std::int64_t row, std::int64_t count,
                 std::int64_t width, float scale, float* out, std::int64_t out_stride);
/// The adjoint: g [count, width] f32, in the rows' base, back to the frame of x.
template <class T>
void rotate_rows_back(const float* g, std::int64_t g_stride, const RowFactors& factors, std::int64_t row,
                      std::int64_t count, std::int64_t width, float scale, T* out, std::int64_t out_stride);

/// out [count, width] = (or +=) rows times factors per channel pair.
void scale_pairs(const float* rows, std::int64_t stride, std::int64_t count, std::int64_t width, const float* factors,
                 float* out, std::int64_t out_stride, bool accumulate = false);

}  // namespace lexring::cpu
