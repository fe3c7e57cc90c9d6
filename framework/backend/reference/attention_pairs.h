/// What the reference's forward, backward and score sums share: rotated rows, the keys that a query sees, the score of
/// one pair. Everything is computed from the distance n - m of the pair at hand, as in the formula on top of
/// attention/form.h: no tiles, no rebased factors, exact at every length.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "framework/attention/call.h"

namespace lexring::reference {

/// Turns interleaved channel pairs of rows [N, heads * E] by the angles of `table` (direction +1) or back (-1), in
/// place.
template <class T>
void turn(std::vector<double>& rows_NW, const AttentionForm& form, const RotaryTable& table, std::int64_t width,
          double direction) {
  if (!form.rotary || rows_NW.empty()) return;
  const std::int64_t pairs = form.head_width / 2;
  const T *cosine = table.cosine.template data<T>(), *sine = table.sine.template data<T>();
  for (std::int64_t n = 0; n < static_cast<std::int64_t>(rows_NW.size()) / width; ++n)
    for (std::int64_t p = 0; p < width / 2; ++p) {
      const double c = cosine[n * pairs + p % pairs], s = direction * sine[n * pairs + p % pairs];
      double* x = rows_NW.data() + n * width + 2 * p;
      const double x0 = x[0], x1 = x[1];
      x[0] = x0 * c - x1 * s;
      x[1] = x1 * c + x0 * s;
    }
}

/// A copy of the columns in f64, [N, width].
template <class T>
std::vector<double> widened(const Columns& columns) {
  std::vector<double> rows;
  rows.reserve(static_cast<std::size_t>(columns.rows() * columns.width));
  for (std::int64_t n = 0; n < columns.rows(); ++n) {
    const T* row = columns.template data<T>() + n * columns.stride();
    rows.insert(rows.end(), row, row + columns.width);
  }
  return rows;
}

template <class T>
void write(const std::vector<double>& rows, const Columns& to) {
  for (std::int64_t n = 0; n < to.rows(); ++n)
    for (std::int64_t i = 0; i < to.width; ++i)
      to.template data<T>()[n * to.stride() + i] = static_cast<T>(rows[n * to.width + i]);
}

/// Calls f(n, keys) for every query row n, with the rows of the keys it sees (perhaps none).
template <class F>
void for_each_query(const TokenTable& queries, const TokenTable& keys, const Visibility& visible, F&& f) {
  std::vector<std::int64_t> seen;
  for (const auto& sequence : queries.sequences) {
    const TokenTable::Sequence* partner = nullptr;
    for (const auto& candidate : keys.sequences)
      if (candidate.id == sequence.id) partner = &candidate;
    for (std::int64_t n = sequence.first; n < sequence.first + sequence.count; ++n) {
      seen.clear();
      for (std::int64_t m = partner ? partner->first : 0; partner && m < partner->first + partner->count; ++m) {
        const std::int64_t key = keys.position[m];
        const bool sink = !visible.sink_begin.empty() && key >= visible.sink_begin[n] &&
                          key < std::min(visible.sink_end[n], queries.position[n] + 1);
        const bool near =
            key >= visible.first[n] && key < visible.end_of(static_cast<std::size_t>(n), queries.position[n]);
        if (near || sink) seen.push_back(m);
      }
      f(n, seen);
    }
  }
}

/// Scores of one pair of rows.
template <class T>
class PairScore {
 public:
  PairScore(const AttentionForm& form, const ScoreBias& bias, const RowTerms& terms = {})
      : form_(form), bias_(bias), terms_(terms), decay_(static_cast<std::size_t>(form.head_width / 2), 1.0) {}

  void set_pair(const TokenTable& queries, std::int64_t query, const TokenTable& keys, std::int64_t key) {
    const auto n = static_cast<std::size_t>(query), m = static_cast<std::size_t>(key);
    query_ = queries.position[n];
    query_row_ = query, key_row_ = key;
    const std::int64_t distance = query_ - keys.position[m];
    entry_ = bias_.relative() ? distance : std::min(std::abs(distance), bias_.distances() - 1);
    const double apart = queries.coordinate_of(n) - keys.coordinate_of(m);
    distance_ = std::abs(apart);
    for (std::size_t i = 0; i < form_.log_decay.size(); ++i) decay_[i] = std::exp(form_.log_decay[i] * apart);
  }
  /// The factor on the product of channel e of the rotated query and key: d score / d q[e] = slope() factor(e) k[e].
  double factor(std::int64_t channel) const { return form_.scale * decay_[static_cast<std::size_t>(channel / 2)]; }
  /// The derivative of the cap, where the last score was made.
  double slope() const { return slope_; }
  /// Whether a score of this pair is seen.
  bool seen(double score) const { return !(score < form_.clamp) || distance_ == 0; }
  /// dtable [H, ..] += the gradient of the bias's table, of which there must be one, from that of the score.
  void add_gradient(std::int64_t head, double dscore, std::vector<double>& dtable) const {
    double* const own = &dtable[static_cast<std::size_t>(head * bias_.distances())];
    if (!bias_.relative()) {
      own[entry_] += dscore;
      return;
    }
    const Relative at(*this, head);
    const std::int64_t pieces = at.row.pieces;
    const double slope = at.row.slope[at.piece], log = log_at(0), log_by_c = log_at(1);
    own[at.piece] += dscore * at.x;
    own[pieces + at.piece] += dscore;
    own[2 * pieces] += dscore * slope * (log_by_c * at.rate.value + log * at.rate.by_c);
    own[2 * pieces + 1] += dscore * slope * log * at.rate.by_threshold;
  }
  /// q, k [E], rotated.
  double operator()(const double* q, const double* k, std::int64_t head) {
    double score = 0;
    for (std::int64_t e = 0; e < form_.head_width; ++e) score += factor(e) * q[e] * k[e];
    if (form_.caps()) {
      const double of_cap = std::tanh(score / form_.softcap);
      score = form_.softcap * of_cap, slope_ = 1 - of_cap * of_cap;
    }
    if (!bias_.slopes.empty()) score -= static_cast<double>(bias_.slopes[static_cast<std::size_t>(head)]) * distance_;
    if (bias_.relative()) {
      const Relative at(*this, head);
      score += static_cast<double>(at.row.slope[at.piece]) * at.x + static_cast<double>(at.row.value[at.piece]);
    } else if (bias_.by_distance.defined()) {
      score += static_cast<double>(row_of(head)[entry_]);
    }
    if (terms_.defined()) {
      for (const std::int64_t column : {head, form_.heads + head})
        score += term(terms_.queries, query_row_, column) - term(terms_.keys, key_row_, column);
    }
    return score;
  }

 private:
  const T* row_of(std::int64_t head) const { return bias_.by_distance.template data<T>() + head * bias_.distances(); }
  static double term(const Tensor& terms, std::int64_t row, std::int64_t column) {
    return terms.template data<T>()[row * terms.dim(1) + column];
  }
  double log_at(std::int64_t row) const {
    return bias_.log_distance.template data<T>()[row * bias_.log_distance.dim(1) + entry_];
  }
  /// Where the pair stands in the pieces of a head's bias.
  struct Relative {
    RelativeRow<T> row;
    typename RelativeRow<T>::Rate rate;
    double x;
    std::int64_t piece = 0;

    Relative(const PairScore& pair, std::int64_t head)
        : row(pair.row_of(head), pair.bias_.distances()), rate(row.rate(pair.query_)), x(pair.log_at(0) * rate.value) {
      while (piece + 1 < row.pieces && x > static_cast<double>(row.knots[piece])) ++piece;
    }
  };

  const AttentionForm& form_;
  const ScoreBias& bias_;
  const RowTerms terms_;
  std::int64_t query_row_ = 0, key_row_ = 0;
  double distance_ = 0, slope_ = 1;
  std::int64_t query_ = 0, entry_ = 0;
  std::vector<double> decay_;  ///< [E/2]
};

}  // namespace lexring::reference
