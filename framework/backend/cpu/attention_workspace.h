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

/// The score bias of one head, in base 2, against a tile of keys.
class TileBias {
 public:
  /// What a query row adds to the scores of the tile's columns.
  struct Row {
    float distance = 0;                 ///< from the tile's first key, exact up to 2^24
    alignas(64) float table[key_tile];  ///< where the bias has a table
  };

  TileBias() = default;
  TileBias(const ScoreBias& bias, std::int64_t head)
      : slope_(bias.slopes.empty() ? 0.0F : bias.slopes[static_cast<std::size_t>(head)] * log2_e),
        last_(bias.distances() - 1),
        table_(last_ < 0 ? nullptr : bias.by_distance.data<float>() + head * (last_ + 1)) {}

  bool any() const { return slope_ != 0 || table_ != nullptr; }
  bool has_table() const { return table_ != nullptr; }
  void take_keys(const TokenTable& keys, const TokenTile& tile) {
    position_ = keys.position.data() + tile.first;
    count_ = tile.count;
    for (std::int64_t i = 0; i < count_; ++i) key_[i] = static_cast<float>(position_[i] - position_[0]);
  }
  void take_query(std::int64_t position, std::int64_t first, std::int64_t last, Row& row) const {
    row.distance = static_cast<float>(position - position_[0]);
    if (table_ == nullptr) return;
    for (std::int64_t i = first; i < last; ++i) row.table[i] = table_[entry(position, i)] * log2_e;
  }
  f32v of(const Row& row, std::int64_t column) const {
    const f32v distance = simd::load(key_ + column) - row.distance;
    const f32v slope = -slope_ * simd::maximum(distance, -distance);
    return table_ == nullptr ? slope : slope + simd::load(row.table + column);
  }
  /// sums [distances] += gradients of columns [first, last), which are 0 where the query does not see.
  void add_gradients(std::int64_t position, const float* gradients, std::int64_t first, std::int64_t last,
                     double* sums) const {
    for (std::int64_t i = first; i < last; ++i) sums[entry(position, i)] += static_cast<double>(gradients[i]);
  }

 private:
  /// Columns after the last key have some entry.
  std::int64_t entry(std::int64_t position, std::int64_t column) const {
    return std::min(std::abs(position - position_[std::min(column, count_ - 1)]), last_);
  }

  float slope_ = 0;
  std::int64_t last_ = -1, count_ = 0;
  const float* table_ = nullptr;  ///< [distances]
  const std::int64_t* position_ = nullptr;
  float key_[key_tile] = {};
};

}  // namespace lexring::cpu
