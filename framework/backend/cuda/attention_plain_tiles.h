/// Tiles of rows in shared memory, and their products in f32 on ordinary cores: what the plain attention kernels are
/// made of.
///
/// A block's 256 threads are a square of 16 x 16: thread (r, c) has rows r, r + 16, ... of a product, and columns c, c
/// + 16, ... of scores or channels 4c .. 4c + 3, 4c + 64, ... of rows. The 16 threads that share a row belong to one
/// warp.
#pragma once

#include <limits>

#include "framework/backend/cuda/attention_decay.h"
#include "framework/backend/cuda/attention_plain.h"
#include "framework/backend/cuda/attention_tables.h"
#include "framework/backend/cuda/gpu.h"

namespace lexring::cuda {

inline constexpr int square = 16, plain_threads = square * square;
inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Head widths that kernels are made for: heads are padded to the next with zeros, in shared memory only.
template <int n>
struct HeadWidth {};
template <class Body>
void with_head_width(std::int64_t width, const Body& body) {
  require(width <= widest_plain_head, "attention heads of width {}: the cuda backend has kernels for at most {}", width,
          widest_plain_head);
  if (width <= 32) return body(HeadWidth<32>{});
  if (width <= 64) return body(HeadWidth<64>{});
  if (width <= 128) return body(HeadWidth<128>{});
  return body(HeadWidth<256>{});
}
/// HeadRows::width that `head_rows` and tiles expect.
inline std::int64_t vector_width(std::int64_t width) { return ceil_div<std::int64_t>(width, 8) * 8; }

/// HeadRows as a kernel's argument.
template <class T>
struct Operand {
  const T* data;
  std::int64_t row_stride, head_stride;
  int channels;  ///< a multiple of 8

  __device__ const T* row(int head, std::int64_t n) const { return data + head * head_stride + n * row_stride; }
};
template <class T>
Operand<T> operand(const HeadRows& rows) {
  return {rows.data<T>(), rows.row_stride, rows.head_stride, static_cast<int>(rows.width)};
}

// ---- Shared memory

/// Row strides in floats: 4 more, so that 16 bytes of 8 rows come from different banks; 8 more, so that two rows are
/// written at once.
template <int width>
inline constexpr int row_stride = width + 4;
template <int columns>
inline constexpr int weight_stride = columns + 8;

template <int rows, int width>
struct RowTile {
  alignas(16) float at[rows][row_stride<width>];
};
template <int rows, int columns>
struct WeightTile {
  alignas(16) float at[rows][weight_stride<columns>];
};

struct Place {
  int row = static_cast<int>(threadIdx.x) / square, column = static_cast<int>(threadIdx.x) % square;
};

/// Channels of a thread: `count` in groups of `group` neighbours.
template <int width>
struct Channels {
  static constexpr int count = width / square, group = count < 4 ? count : 4;
  /// Where the group of channel c begins.
  __device__ static int first(int column, int c) { return (c / group * square + column) * group; }
};

/// Rows [first, first + count) of a head, zeros beyond, times `factors` per channel pair (null: 1). Bytes: what is
/// read.
template <int rows, int width, class T>
__device__ void load_tile(RowTile<rows, width>& tile, const Operand<T>& x, int head, int first, int count,
                          const float* factors = nullptr) {
  constexpr int per_row = width / 4, rows_at_once = plain_threads / per_row;
  static_assert(plain_threads % per_row == 0 && rows % rows_at_once == 0);
  const int own = static_cast<int>(threadIdx.x) / per_row, channel = static_cast<int>(threadIdx.x) % per_row * 4;
  const bool inside = channel < x.channels;
  const float even = factors != nullptr ? factors[channel / 2] : 1.0F,
              odd = factors != nullptr ? factors[channel / 2 + 1] : 1.0F;
  const T* from = x.row(head, first + own) + channel;
  LEXRING_UNROLL_FOUR_TIMES for (int i = 0; i < rows / rows_at_once; ++i) {
    const int row = own + i * rows_at_once;
    Floats<4> part{};
    if (inside && row < count) part = load<4>(from);
    from += rows_at_once * x.row_stride;
    part[0] *= even, part[1] *= even, part[2] *= odd, part[3] *= odd;
    store_shared<4>(&tile.at[row][channel], part);
  }
}

/// factors[pair] = decay from the base of a tile of keys to that of a tile of queries.
template <int width>
__device__ void put_factors(float (&factors)[width / 2], const LogDecay* decay, int pairs, int distance) {
  for (int pair = static_cast<int>(threadIdx.x); pair < width / 2; pair += plain_threads)
    factors[pair] = pair < pairs ? decay_over(decay[pair], distance) : 1.0F;
}

// ---- Products

/// sums[i][j] = row i of a times row j of b.
template <int width, int m, int n, int a_rows, int b_rows>
__device__ void multiply(const RowTile<a_rows, width>& a, const RowTile<b_rows, width>& b, Place place,
                         float (&sums)[m][n]) {
  static_assert(m * square == a_rows && n * square == b_rows);
  LEXRING_UNROLL for (int i = 0; i < m; ++i) { LEXRING_UNROLL for (int j = 0; j < n; ++j) sums[i][j] = 0.0F; }
  LEXRING_UNROLL_ONCE for (int e = 0; e < width; e += 4) {
    Floats<4> left[m], right[n];
    LEXRING_UNROLL for (int i = 0; i < m; ++i) left[i] = load<4>(&a.at[place.row + i * square][e]);
    LEXRING_UNROLL for (int j = 0; j < n; ++j) right[j] = load<4>(&b.at[place.column + j * square][e]);
    LEXRING_UNROLL for (int i = 0; i < m; ++i) {
      LEXRING_UNROLL for (int j = 0; j < n; ++j) {
        LEXRING_UNROLL for (int x = 0; x < 4; ++x) sums[i][j] = fmaf(left[i][x], right[j][x], sums[i][j]);
      }
    }
  }
}

/// Puts this thread's weights where `carry` reads them. What others of its warp read needs __syncwarp before and after,
/// not more.
template <int m, int n, int rows, int columns>
__device__ void put_weights(WeightTile<rows, columns>& weights, Place place, const float (&values)[m][n]) {
  LEXRING_UNROLL for (int i = 0; i < m; ++i) {
    LEXRING_UNROLL for (int j = 0; j < n; ++j) weights.at[place.row + i * square][place.column + j * square] =
        values[i][j];
  }
}

/// sums[i][c] += weights of row i times channel c of `rows`.
template <int width, int m, int w_rows, int inner>
__device__ void carry(const WeightTile<w_rows, inner>& weights, const RowTile<inner, width>& rows, Place place,
                      float (&sums)[m][width / square]) {
  using Own = Channels<width>;
  static_assert(m * square == w_rows);
  LEXRING_UNROLL_ONCE for (int k = 0; k < inner; k += 4) {
    Floats<4> left[m];
    LEXRING_UNROLL for (int i = 0; i < m; ++i) left[i] = load<4>(&weights.at[place.row + i * square][k]);
    LEXRING_UNROLL for (int x = 0; x < 4; ++x) {
      LEXRING_UNROLL for (int c = 0; c < Own::count; c += Own::group) {
        const Floats<Own::group> right = load<Own::group>(&rows.at[k + x][Own::first(place.column, c)]);
        LEXRING_UNROLL for (int i = 0; i < m; ++i) {
          LEXRING_UNROLL for (int e = 0; e < Own::group; ++e) sums[i][c + e] =
              fmaf(left[i][x], right[e], sums[i][c + e]);
        }
      }
    }
  }
}

/// Sum (maximum) over the threads of a row.
__device__ inline float row_sum(float x) {
  LEXRING_UNROLL for (int distance = square / 2; distance > 0; distance /= 2) x +=
      __shfl_xor_sync(whole_warp, x, distance);
  return x;
}
__device__ inline float row_max(float x) {
  LEXRING_UNROLL for (int distance = square / 2; distance > 0; distance /= 2) x =
      fmaxf(x, __shfl_xor_sync(whole_warp, x, distance));
  return x;
}

// ---- A row's own channels in global memory, `width` of them

/// body(c, channel) for each of a thread's channels that the head has.
template <int padded, class Body>
__device__ void for_channels(int column, int width, const Body& body) {
  using Own = Channels<padded>;
  LEXRING_UNROLL for (int c = 0; c < Own::count; ++c) {
    const int channel = Own::first(column, c) + c % Own::group;
    if (channel < width) body(c, channel);
  }
}

// ---- Tables

__device__ inline bool sees(const RowRange& row, int key) {
  return (key >= row.first && key < row.last) || (key >= row.sink_first && key < row.sink_last);
}
__device__ inline bool meets(const QueryTile& queries, int key_tile) {
  return (key_tile >= queries.tiles_begin && key_tile < queries.tiles_end) ||
         (key_tile >= queries.sink_tiles_begin && key_tile < queries.sink_tiles_end);
}
/// The key tiles that a tile of queries meets, counted from 0.
__device__ inline int tiles_met(const QueryTile& queries) {
  return queries.tiles_end - queries.tiles_begin + queries.sink_tiles_end - queries.sink_tiles_begin;
}
__device__ inline int tile_met(const QueryTile& queries, int i) {
  const int count = queries.tiles_end - queries.tiles_begin;
  return i < count ? queries.tiles_begin + i : queries.sink_tiles_begin + i - count;
}
/// Whether every query of a tile sees keys [first, first + count).
__device__ inline bool seen_whole(const QueryTile& queries, int first, int count) {
  return first >= queries.whole_first && first + count <= queries.whole_last;
}

/// A number of a row and head as the sum of two, and 0 where rows have none.
struct RowTerm {
  float high, low;
};

/// A pair's place in the bias by relative distance of a head.
struct RelativePlace {
  int piece;
  float x, log, log_by_c;
};

/// What is added to the scores of one head, in base 2.
struct HeadBias {
  float slope;
  const float* table;         ///< the head's row: by distance, or a RelativeRow; null: none
  int last;                   ///< of the table by distance
  int pieces;                 ///< of the bias by relative distance; 0: by distance
  const float* log_distance;  ///< [2, distances] with pieces
  int distances;

  __device__ int entry(int query, int key) const {
    const int distance = query > key ? query - key : key - query;
    return distance < last ? distance : last;
  }
  /// Of a query's log(c d + 1).
  __device__ float rate(int query) const {
    const float far = fmaxf(static_cast<float>(query), table[2 * pieces + 1]);
    return 1.0F / (log1pf(table[2 * pieces] * far) + 1e-6F);
  }
  __device__ RelativePlace place(int query, int key, float rate) const {
    const int distance = query < key ? 0 : query - key < distances ? query - key : distances - 1;
    RelativePlace at{0, log_distance[distance] * rate, log_distance[distance], log_distance[distances + distance]};
    const float* const knots = table + 2 * pieces + 2;
    int above = pieces - 1;  // the piece is in [at.piece, above]
    while (at.piece < above) {
      const int middle = (at.piece + above) / 2;
      if (at.x > knots[middle]) at.piece = middle + 1;
      else above = middle;
    }
    return at;
  }
  __device__ float of(int query, int key, float rate) const {
    float sum = -slope * fabsf(static_cast<float>(query - key));
    if (pieces > 0) {
      const RelativePlace at = place(query, key, rate);
      sum = fmaf(fmaf(table[at.piece], at.x, table[pieces + at.piece]), log2_e, sum);
    } else if (table != nullptr) {
      sum = fmaf(table[entry(query, key)], log2_e, sum);
    }
    return sum;
  }
};

/// What scores are made of, besides products.
struct ScoreRule {
  const RowRange* ranges;
  const std::int32_t *query_position, *key_position;  ///< null without bias and clamp
  const float* slopes;                                ///< null without
  const float* by_distance;                           ///< [H, distances], null without
  const float* log_distance;                          ///< [2, log_distances], null without
  int distances, log_distances;
  const float *query_terms, *key_terms;  ///< [N, 2 H], [M, 2 H], null without
  int heads;
  const LogDecay* decay;  ///< null without
  float scale;            ///< times log2(e)
  int pairs;
  float cap, least;  ///< in base 2: soft cap, 0 without; clamp, -inf without
  bool relu;

  __device__ bool biased() const { return query_position != nullptr || query_terms != nullptr; }
  __device__ RowTerm term(const float* terms, int head, int row) const {
    const float* const at = terms + static_cast<std::int64_t>(row) * 2 * heads + head;
    return {at[0], at[heads]};
  }
  __device__ float capped(float score) const { return cap > 0.0F ? cap * tanhf(score / cap) : score; }
  /// The derivative of `capped`, from its result.
  __device__ float slope(float score) const { return cap > 0.0F ? 1.0F - score / cap * (score / cap) : 1.0F; }
  /// Whether the key of this score, bias included, is seen; the query's own always is.
  __device__ bool counts(float score, std::int32_t query, std::int32_t key) const {
    return !(score < least) || query == key;  // NaN is seen
  }
  __device__ HeadBias bias(int head) const {
    return {slopes != nullptr ? slopes[head] : 0.0F,
            by_distance != nullptr ? by_distance + static_cast<std::int64_t>(head) * distances : nullptr,
            distances - 1,
            log_distance != nullptr ? distances / 3 : 0,
            log_distance,
            log_distances};
  }
};
inline ScoreRule score_rule(const AttentionForm& form, const ScoreBias& bias, const RowTerms& terms,
                            const AttentionTables& tables) {
  ScoreRule rule{};
  rule.ranges = tables.rows();
  if (tables.query_position.defined()) {
    rule.query_position = tables.query_position.data<std::int32_t>(),
    rule.key_position = tables.key_position.data<std::int32_t>();
  }
  if (tables.slopes.defined()) rule.slopes = tables.slopes.data<float>();
  if (bias.by_distance.defined()) {
    rule.by_distance = bias.by_distance.data<float>();
    rule.distances = static_cast<int>(bias.distances());
  }
  if (bias.relative()) {
    rule.log_distance = bias.log_distance.data<float>();
    rule.log_distances = static_cast<int>(bias.log_distance.dim(1));
  }
  if (terms.defined()) rule.query_terms = terms.queries.data<float>(), rule.key_terms = terms.keys.data<float>();
  rule.heads = static_cast<int>(form.heads);
  if (tables.decay.defined()) rule.decay = reinterpret_cast<const LogDecay*>(tables.decay.data<float>());
  rule.scale = static_cast<float>(form.scale) * log2_e;
  rule.pairs = static_cast<int>(form.head_width / 2);
  rule.cap = static_cast<float>(form.softcap) * log2_e;
  rule.least = static_cast<float>(form.clamp) * log2_e;
  rule.relu = form.normalizer == Normalizer::relu;
  return rule;
}

/// The weight that ReLU makes of a score in base 2; NaN stays NaN.
__device__ inline float rectified(float score) { return score < 0.0F ? 0.0F : score * ln_2; }

/// What backward makes of a score, bias included, in base 2.
struct Differential {
  float weight, gradient;  ///< gradient: of the score, natural

  /// From the gradient of the weight.
  __device__ Differential(const ScoreRule& rule, float score, float lse, float dweight, float delta) {
    weight = rule.relu ? rectified(score) : exp2_fast(score - lse);
    gradient = !rule.relu ? weight * (dweight - delta) : score > 0.0F ? dweight : 0.0F;
  }
};

/// What a block keeps of `rows` queries, for one head.
template <int rows>
struct QueryRows {
  RowRange range[rows];
  std::int32_t position[rows];
  float rate[rows];
  RowTerm term[rows];

  __device__ void put(const ScoreRule& rule, int head, int first, int count) {
    for (int row = static_cast<int>(threadIdx.x); row < rows; row += plain_threads) {
      const bool live = row < count;
      range[row] = live ? rule.ranges[first + row] : RowRange{0, 0, 0, 0};
      if (!rule.biased()) continue;
      position[row] = live && rule.query_position != nullptr ? rule.query_position[first + row] : 0;
      if (rule.log_distance != nullptr) rate[row] = rule.bias(head).rate(position[row]);
      term[row] = live && rule.query_terms != nullptr ? rule.term(rule.query_terms, head, first + row) : RowTerm{};
    }
  }
};
template <int rows>
struct KeyRows {
  std::int32_t position[rows];
  RowTerm term[rows];

  __device__ void put(const ScoreRule& rule, int head, int first, int count) {
    if (!rule.biased()) return;
    for (int row = static_cast<int>(threadIdx.x); row < rows; row += plain_threads) {
      const bool live = row < count;
      position[row] = live && rule.key_position != nullptr ? rule.key_position[first + row] : 0;
      term[row] = live && rule.key_terms != nullptr ? rule.term(rule.key_terms, head, first + row) : RowTerm{};
    }
  }
};

/// What is added to the score of a query and a key, in base 2.
template <int query_count, int key_count>
__device__ float bias_of(const HeadBias& bias, const QueryRows<query_count>& queries, int query,
                         const KeyRows<key_count>& keys, int key) {
  const RowTerm own = queries.term[query], other = keys.term[key];
  const float terms = (own.high - other.high) + (own.low - other.low);
  return fmaf(terms, log2_e, bias.of(queries.position[query], keys.position[key], queries.rate[query]));
}

}  // namespace lexring::cuda
