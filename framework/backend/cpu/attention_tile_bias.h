/// The score bias of one head, in base 2, against tiles of keys.
#pragma once

#include <algorithm>
#include <vector>

#include "framework/attention/call.h"
#include "framework/backend/cpu/attention_tiles.h"

namespace lexring::cpu {

/// The bias by relative distance of one head (RelativeRow). Keys of a tile ascend, so the distances of a row's keys
/// fall: its columns come apart into one run for each piece that they are in, in which the bias is linear in their
/// logs.
class RelativeBias {
 public:
  /// What a row of queries has of the tile's columns.
  struct Row {
    alignas(64) float log[key_tile + simd::lanes] = {};       ///< log(c d + 1)
    alignas(64) float log_by_c[key_tile + simd::lanes] = {};  ///< for gradients only
  };

  RelativeBias() = default;
  /// For the queries of a tile; `positions` [queries].
  RelativeBias(const ScoreBias& bias, std::int64_t head, const std::int64_t* positions, std::int64_t queries);

  void take_keys(const std::int64_t* positions, std::int64_t count) {
    position_ = positions, count_ = count;
    has_gaps_ = positions[count - 1] - positions[0] != count - 1;
  }
  /// Of query r, columns [first, last): `logs` (for gradients, both rows of them) and the bias.
  void take_query(std::int64_t r, std::int64_t position, std::int64_t first, std::int64_t last, bool learns, Row& logs,
                  float* bias) const;
  /// sums [3 P + 1] += gradients of columns [first, last), which are 0 where the query does not see.
  void add_gradients(std::int64_t r, std::int64_t position, const Row& logs, const float* gradients, std::int64_t first,
                     std::int64_t last, double* sums) const;

 private:
  /// out[i] = table[distance of column i].
  void gather(const float* table, std::int64_t position, std::int64_t first, std::int64_t last, float* out) const;
  /// body(piece, first, last) for each run of columns.
  template <class Body>
  void for_runs(std::int64_t r, std::int64_t position, std::int64_t first, std::int64_t last, const Body& body) const {
    for (std::int64_t piece = pieces_ - 1; piece >= 0 && first < last; --piece) {
      const std::int64_t end = piece == 0 ? last : std::clamp(columns_from(r, piece - 1, position), first, last);
      if (first < end) body(piece, first, end);
      first = end;
    }
  }
  /// How many columns are beyond a knot.
  std::int64_t columns_from(std::int64_t r, std::int64_t knot, std::int64_t position) const {
    const std::int64_t key = position - beyond_[static_cast<std::size_t>(r * knots_ + knot)];
    if (!has_gaps_) return key - position_[0] + 1;
    return std::upper_bound(position_, position_ + count_, key) - position_;
  }

  std::int64_t pieces_ = 0, knots_ = 0, distances_ = 0;
  const float *row_ = nullptr, *log_ = nullptr;
  std::vector<RelativeRow<float>::Rate> rates_;  ///< by query
  std::vector<std::int32_t> beyond_;             ///< [queries, knots]: the first distance beyond each, knots padded
  const std::int64_t* position_ = nullptr;
  std::int64_t count_ = 0;
  bool has_gaps_ = false;
};

/// Bias and row terms.
class TileBias {
 public:
  /// What a query row adds to the scores of the tile's columns.
  struct Row {
    Row() = default;
    Row(const Row&) = delete;
    Row& operator=(const Row&) = delete;
    float distance = 0;       ///< to the tile's first key, exact up to 2^24
    float high = 0, low = 0;  ///< its own term
    alignas(64) float table[key_tile + simd::lanes] = {};
    const float* bias = table;  ///< of each column, where the bias has a table; or a place in the tile's line
    RelativeBias::Row logs;
  };

  TileBias() = default;
  /// Of `call`, for the queries of a tile. `learns`: gradients will be added.
  template <class Call>
  TileBias(const Call& call, std::int64_t head, const TokenTile& queries, bool learns)
      : slope_(call.bias.slopes.empty() ? 0.0F : call.bias.slopes[static_cast<std::size_t>(head)] * log2_e),
        last_(call.bias.distances() - 1),
        is_relative_(call.bias.relative()),
        learns_(learns),
        table_(last_ < 0 ? nullptr : call.bias.by_distance.template data<float>() + head * (last_ + 1)),
        heads_(call.form.heads),
        queries_(&call.queries->tokens),
        first_query_(queries.first) {
    if (table_ != nullptr && !is_relative_) {
      const std::int64_t* const positions = queries_->position.data() + queries.first;
      query_step_ = step_of(positions, queries.count);
      last_query_ = queries.count - 1, last_position_ = positions[last_query_];
    }
    if (is_relative_)
      relative_ = RelativeBias(call.bias, head, call.queries->tokens.position.data() + queries.first, queries.count);
    if (!call.row_terms.defined()) return;
    query_terms_ = call.row_terms.queries.template data<float>() + queries.first * 2 * heads_ + head;
    key_terms_ = call.row_terms.keys.template data<float>() + head;
  }

  bool any() const { return slope_ != 0 || table_ != nullptr || key_terms_ != nullptr; }
  bool has_table() const { return table_ != nullptr; }
  bool has_terms() const { return key_terms_ != nullptr; }
  void take_keys(const TokenTable& keys, const TokenTile& tile) {
    position_ = keys.position.data() + tile.first;
    count_ = tile.count;
    const auto at = [&](std::int64_t i) { return keys.coordinate_of(static_cast<std::size_t>(tile.first + i)); };
    origin_ = at(0);
    for (std::int64_t i = 0; i < count_; ++i) key_[i] = static_cast<float>(at(i) - origin_);
    if (is_relative_) relative_.take_keys(position_, count_);
    else if (table_ != nullptr) take_line();
    for (std::int64_t i = 0; has_terms() && i < count_; ++i) {
      const float* const terms = key_terms_ + (tile.first + i) * 2 * heads_;
      key_high_[i] = terms[0], key_low_[i] = terms[heads_];
    }
  }
  /// Of query r of the tile.
  void take_query(std::int64_t r, std::int64_t position, std::int64_t first, std::int64_t last, Row& row) const {
    row.distance = static_cast<float>(queries_->coordinate_of(static_cast<std::size_t>(first_query_ + r)) - origin_);
    if (has_terms()) row.high = query_terms_[r * 2 * heads_], row.low = query_terms_[(r * 2 + 1) * heads_];
    if (table_ == nullptr) return;
    row.bias = has_line_ ? line_ + last_query_ - r : row.table;
    if (has_line_) return;
    if (is_relative_) return relative_.take_query(r, position, first, last, learns_, row.logs, row.table);
    for (std::int64_t i = first; i < last; ++i) row.table[i] = table_[entry(position, i)] * log2_e;
  }
  simd::f32v of(const Row& row, std::int64_t column) const {
    const simd::f32v distance = simd::load(key_ + column) - row.distance;
    simd::f32v sum = -slope_ * simd::maximum(distance, -distance);
    if (table_ != nullptr) sum += simd::load(row.bias + column);
    if (has_terms())
      sum += log2_e * ((row.high - simd::load(key_high_ + column)) + (row.low - simd::load(key_low_ + column)));
    return sum;
  }
  /// sums, of the head's row of the table, += gradients of columns [first, last) in whole vectors, which are 0 where
  /// the query does not see; those of a line once `finish_keys` is called.
  void add_gradients(std::int64_t r, std::int64_t position, const Row& row, const float* gradients, std::int64_t first,
                     std::int64_t last, double* sums) {
    if (is_relative_) return relative_.add_gradients(r, position, row.logs, gradients, first, last, sums);
    if (has_line_) {  // two lines: the last row's sums may still be on their way to memory
      float* const line = line_sums_[r % 2] + last_query_ - r;
      for (std::int64_t i = first; i < last; i += simd::lanes)
        simd::store(line + i, simd::load(line + i) + simd::load(gradients + i));
      return;
    }
    for (std::int64_t i = first; i < last; ++i) sums[entry(position, i)] += static_cast<double>(gradients[i]);
  }
  /// After the last query of the tile.
  void finish_keys(double* sums) const {
    for (std::int64_t j = 0; has_line_ && j < last_query_ + count_; ++j)
      sums[entry_of_line(j)] += static_cast<double>(line_sums_[0][j]) + static_cast<double>(line_sums_[1][j]);
  }

 private:
  /// By which positions rise from each token to the next; 0: not always by the same.
  static std::int64_t step_of(const std::int64_t* positions, std::int64_t count) {
    const std::int64_t step = count > 1 ? positions[1] - positions[0] : 1;
    for (std::int64_t i = 2; i < count; ++i) {
      if (positions[i] - positions[i - 1] != step) return 0;
    }
    return step;
  }
  /// Where queries and keys rise by the same steps, the biases of a query are those of the next one, a column on: all
  /// are in one line, j = 0 of the last query and the first key.
  void take_line() {
    has_line_ = query_step_ > 0 && step_of(position_, count_) == query_step_;
    if (!has_line_) return;
    const std::int64_t length = last_query_ + (count_ + simd::lanes - 1) / simd::lanes * simd::lanes;
    for (std::int64_t j = 0; j < length; ++j) line_[j] = table_[entry_of_line(j)] * log2_e;
    if (learns_) std::fill_n(line_sums_[0], length, 0.0F), std::fill_n(line_sums_[1], length, 0.0F);
  }
  std::int64_t entry_of_line(std::int64_t j) const {
    return std::min(std::abs(last_position_ - position_[0] - query_step_ * j), last_);
  }
  /// Columns after the last key have some entry.
  std::int64_t entry(std::int64_t position, std::int64_t column) const {
    return std::min(std::abs(position - position_[std::min(column, count_ - 1)]), last_);
  }

  float slope_ = 0;
  std::int64_t last_ = -1, count_ = 0;
  bool is_relative_ = false, learns_ = false;
  const float* table_ = nullptr;  ///< the head's row
  std::int64_t heads_ = 0;
  const TokenTable* queries_ = nullptr;
  std::int64_t first_query_ = 0;
  double origin_ = 0;                                          ///< of `key_`
  const float *query_terms_ = nullptr, *key_terms_ = nullptr;  ///< of the tile's first query, of the first key
  const std::int64_t* position_ = nullptr;
  float key_[key_tile] = {}, key_high_[key_tile] = {}, key_low_[key_tile] = {};
  std::int64_t query_step_ = 0, last_query_ = 0, last_position_ = 0;
  bool has_line_ = false;
  static constexpr std::int64_t longest_line = query_tile + key_tile + simd::lanes;
  alignas(64) float line_[longest_line] = {};
  alignas(64) float line_sums_[2][longest_line] = {};
  RelativeBias relative_;
};

}  // namespace lexring::cpu
