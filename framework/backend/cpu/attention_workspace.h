/// Packed keys and working memory of one task: one sequence and one key head.
#pragma once

#include <algorithm>

#include "framework/attention/call.h"
#include "framework/backend/cpu/attention_tiles.h"
#include "framework/backend/cpu/tile_product.h"

namespace lexring::cpu {

/// Working memory in 32-bit words, from the runtime's cache.
template <class W>
W* take(std::vector<Tensor>& owner, Runtime& runtime, std::int64_t count) {
  owner.emplace_back(runtime, Shape{std::max<std::int64_t>(count, 1)}, Dtype::f32);
  return reinterpret_cast<W*>(owner.back().raw());
}

/// Keys and values (of dtype T) of some tiles of one sequence and head, packed as right operands. `transposed` [E,
/// keys] makes scores; `rows` [keys, E] carry weights (values) or gradients (keys).
template <class T>
struct PackedKeys {
  using F = Factor<T>;
  std::int64_t width;                                                 ///< E
  Word<F>*key_transposed, *key_rows, *value_transposed, *value_rows;  ///< null: not wanted

  static std::int64_t transposed_words(std::int64_t width) { return packed_words<F>(width, key_tile); }
  static std::int64_t row_words(std::int64_t width) { return packed_words<F>(key_tile, width); }
  Right<F> keys_transposed(std::int64_t slot, std::int64_t count) const {
    return {key_transposed + slot * transposed_words(width), words<F>(width), count};
  }
  Right<F> values_transposed(std::int64_t slot, std::int64_t count) const {
    return {value_transposed + slot * transposed_words(width), words<F>(width), count};
  }
  Right<F> keys_rows(std::int64_t slot, std::int64_t count) const {
    return {key_rows + slot * row_words(width), words<F>(count), width};
  }
  Right<F> values_rows(std::int64_t slot, std::int64_t count) const {
    return {value_rows + slot * row_words(width), words<F>(count), width};
  }

  /// Packs one tile into `slot`; `staging` holds key_tile * padded_width(E) floats.
  void pack(std::int64_t slot, const TokenTile& tile, const Columns& k, const Columns& v, std::int64_t head,
            const RowFactors& factors, float* staging) const {
    const std::int64_t stride = padded_width(width);
    rotate_rows(k.data<T>() + tile.first * k.stride() + head * width, k.stride(), factors, tile.first, tile.count,
                width, 1.0F, staging, stride);
    pack_transposed<F>(staging, stride, width, tile.count, key_transposed + slot * transposed_words(width));
    if (key_rows) pack_rows<F>(staging, stride, tile.count, width, key_rows + slot * row_words(width));
    rotate_rows(v.data<T>() + tile.first * v.stride() + head * width, v.stride(), RowFactors{}, tile.first, tile.count,
                width, 1.0F, staging, stride);
    if (value_transposed)
      pack_transposed<F>(staging, stride, width, tile.count, value_transposed + slot * transposed_words(width));
    if (value_rows) pack_rows<F>(staging, stride, tile.count, width, value_rows + slot * row_words(width));
  }
};

/// Column ranges of a tile that a row sees, as vectors of flags.
struct RowMask {
  std::int32_t first, last, sink_first, sink_last;

  RowMask(const RowRange& row, std::int64_t begin, std::int64_t count)
      : first(clip(row.first, begin, count)),
        last(clip(row.last, begin, count)),
        sink_first(clip(row.sink_first, begin, count)),
        sink_last(clip(row.sink_last, begin, count)) {}

  /// x where the column is seen, `other` where not.
  f32v select(std::int64_t column, f32v x, f32v other) const {
    const simd::i32v c = simd::lane_index() + static_cast<std::int32_t>(column);
    const simd::i32v seen = ((c >= first) & (c < last)) | ((c >= sink_first) & (c < sink_last));
    return seen ? x : other;
  }

 private:
  static std::int32_t clip(std::int32_t row, std::int64_t begin, std::int64_t count) {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(row - begin, 0, count));
  }
};

/// The scores, in base 2, that count as seen in one row of a tile: all but those below a threshold. The query's own
/// token always does.
struct RowClamp {
  float least;
  std::int32_t own = -1;  ///< column

  RowClamp(const AttentionForm& form, std::int64_t query, const TokenTable& keys, const TokenTile& tile)
      : least(static_cast<float>(form.clamp) * log2_e) {
    const auto begin = keys.position.begin() + tile.first, end = begin + tile.count;
    const auto found = std::lower_bound(begin, end, query);
    if (found != end && *found == query) own = static_cast<std::int32_t>(found - begin);
  }

  /// x where the score is seen, `other` where not.
  f32v select(std::int64_t column, f32v score, f32v x, f32v other) const {
    const simd::i32v c = simd::lane_index() + static_cast<std::int32_t>(column);
    return (score < least) & (c != own) ? other : x;  // NaN is seen
  }
};

}  // namespace lexring::cpu
