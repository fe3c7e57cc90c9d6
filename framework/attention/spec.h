/// All that attention kernels know of position methods and patterns. models/positions and models/patterns produce
/// these; no kernel sees a method's name, asks which rank it is on, or knows how long a sequence is. Everything is a
/// function of global positions.
///
/// Score of query n and key m <= n (positions), channel pair i, head h:
///   s = scale * query_factor[n]
///         * sum_i exp(log_decay[i] * (n - m)) Re((q_i e^(j angle_n,i)) conj(k_i e^(j angle_m,i)))
///       - slopes[h] * (n - m) + distance_bias[h][n - m]
#pragma once

#include <cstdint>
#include <vector>

#include "framework/tensor/tensor.h"

namespace lexring {

enum class Normalizer { softmax, relu };

/// What one layer's attention computes; constant over a run.
struct AttentionSpec {
  std::int64_t heads = 0;       ///< H query heads
  std::int64_t kv_heads = 0;    ///< K key and value heads; K divides H, query head h reads key head h / (H / K)
  std::int64_t head_width = 0;  ///< E, even
  double scale = 1.0;           ///< 1 / sqrt(E), times a method's temperature
  bool rotary = false;          ///< channel pairs (0, 1), (2, 3), ... are turned by the tables in RotaryTable
  std::vector<double>
      log_decay;  ///< [E/2] natural log of the decay per unit of distance, <= 0; empty: none. Needs `rotary`.
  std::vector<float> slopes;  ///< [H] bias = -slope * distance; empty: none
  Normalizer normalizer = Normalizer::softmax;
  // Places for methods to come; check_supported() refuses them until every backend has them.
  std::vector<float> query_factor;  ///< [N] multiplies the scores of a query (log-n scaling); empty: 1
  Tensor distance_bias;             ///< [H, distances] added by distance (T5, Sandwich, KERPLE); undefined: none
};

/// Throws Error when the specification asks for what no backend has yet, or contradicts itself.
void check_supported(const AttentionSpec& spec);

/// The tokens of one side (queries or keys) of a block of attention: which sequence each row belongs to and where it
/// stands there.
struct TokenTable {
  struct Sequence {
    std::int64_t id;     ///< global within the batch; queries see keys of the same id only
    std::int64_t first;  ///< first row here
    std::int64_t count;  ///< rows here, adjacent (chunks of one sequence are concatenated in order of position)
    bool operator==(const Sequence&) const = default;
  };
  std::vector<Sequence> sequences;     ///< ids ascending, rows in order, covering [0, N)
  std::vector<std::int64_t> position;  ///< [N] global positions, >= 0, strictly increasing within a sequence

  std::int64_t rows() const { return static_cast<std::int64_t>(position.size()); }
};

/// `count` sequences of `length` tokens at positions 0 .. length-1, in ids 0 .. count-1.
TokenTable dense_tokens(std::int64_t count, std::int64_t length);
/// Throws Error unless the table keeps its promises.
void check(const TokenTable& tokens);

/// cos and sin of every token's angles, [N, E/2]: f32, or f64 in the reference backend at f64. Computed in f64
/// (models/positions/rotary.h).
struct RotaryTable {
  Tensor cosine, sine;
};

/// Which keys each query sees: those at positions [first, own position], and those at [sink_begin, sink_end). Always
/// causal. Causal, window, blockwise, sinks and documents all are of this form.
struct Visibility {
  std::vector<std::int64_t> first;  ///< [N]
  std::vector<std::int64_t>
      sink_begin;  ///< [N] or empty: no second interval. The two may overlap; a key in both counts once.
  std::vector<std::int64_t> sink_end;  ///< [N], with sink_begin
};

/// The largest span of positions, max - min over a tile of queries and one of keys, over which the rebased decay
/// factors of a diagonal tile stay representable: 40 / max |log_decay| (16k for LEX). Effectively unlimited without
/// decay. See design note in block.h.
std::int64_t diagonal_span(const AttentionSpec& spec);

}  // namespace lexring
