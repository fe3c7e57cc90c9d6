/// The form of attention: what is constant per kind of layer, whatever the batch. With the rows (rows.h) and the score
/// bias (bias.h) it is all that kernels know of position methods and patterns. models/positions and models/patterns
/// produce the three; no kernel sees a method's name, asks which rank it is on, or knows how long a sequence is.
/// Everything is a function of global positions.
///
/// Score of query n and key m <= n (positions), channel pair i, head h:
///   s = cap(scale * sum_i exp(log_decay[i] * (n - m)) Re((q_i e^(j angle_n,i)) conj(k_i e^(j angle_m,i)))) + bias
/// where cap(x) = softcap * tanh(x / softcap). A score below `clamp` is that of a key that is not seen.
/// Weight of the key's value: exp(s) / sum of exp(s) over keys seen (softmax), or max(s, 0) (ReLU, Shen et al. 2023)
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "framework/tensor/dtype.h"

namespace lexring {

/// landmark: softmax in blocks (landmarks.h), made of calls with softmax; no kernel's.
enum class Normalizer { softmax, relu, landmark };

struct AttentionForm {
  std::int64_t heads = 0;         ///< H query heads
  std::int64_t kv_heads = 0;      ///< K key and value heads; K divides H, query head h reads key head h / (H / K)
  std::int64_t head_width = 0;    ///< E, even
  double scale = 1.0;             ///< 1 / sqrt(E), times a method's temperature
  bool rotary = false;            ///< channel pairs (0, 1), (2, 3), ... are turned by the tables of the rows
  std::vector<double> log_decay;  ///< [E/2] natural log of the decay per unit of n - m; empty: none. Needs `rotary`. At
                                  ///< most 0; or at least 0, where queries see keys after them only (mirrored).
  double softcap = 0.0;           ///< 0: scores have no cap (Gemma 2 has one)
  double clamp = no_clamp;        ///< the query's own token is always seen
  Normalizer normalizer = Normalizer::softmax;

  static constexpr double no_clamp = -std::numeric_limits<double>::infinity();

  std::int64_t group() const { return heads / kv_heads; }  ///< query heads that read one key head
  std::int64_t query_width() const { return heads * head_width; }
  std::int64_t key_width() const { return kv_heads * head_width; }
  bool decays() const { return !log_decay.empty(); }
  bool caps() const { return softcap > 0; }
  bool clamps() const { return clamp > no_clamp; }
  bool operator==(const AttentionForm&) const = default;
};

/// The form for keys after their queries: decay over m - n.
AttentionForm mirrored(AttentionForm form);

/// Throws Error when the form contradicts itself, or asks for what no backend has yet.
void check(const AttentionForm& form);

/// decay_span() without decay: all positions are in one.
constexpr std::int64_t no_decay_span = std::int64_t{1} << 62;
/// Adjacent positions whose decay is counted from one base, the one in their middle: 2 floor(40 / max |log_decay|) + 1
/// (32,695 for LEX), so that factors stay between e^-40 and e^40. Span i holds positions [i, i + 1) times this number.
/// Unlimited without decay. See the note on decay in call.h.
std::int64_t decay_span(const AttentionForm& form);

}  // namespace lexring
