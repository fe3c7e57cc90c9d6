/// The model's configuration: those fields of the reference's Config, Position and Attention that lexring builds, under
/// their names and defaults.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "framework/backend/backend.h"
#include "framework/base/words.h"
#include "models/positions/method.h"
#include "models/positions/scaling.h"

namespace lexring {

class Pattern;
struct AttentionConfig;

/// A row of the table of patterns (patterns.cpp).
struct PatternMethod {
  const char* name;
  std::unique_ptr<Pattern> (*make)(const AttentionConfig&);
  const char* formula;                                ///< in text: what a query sees
  const char* source;                                 ///< authors, year, title; empty: nobody's
  bool window = false, block = false, sinks = false;  ///< which sizes of AttentionConfig it reads
  bool sees_later = false;  ///< a query sees keys after it: nothing to stream or to generate with
  bool halves = false;      ///< the later half of the query heads has a pattern of its own; for training

  static constexpr const char* key = "attention.pattern";
  static std::span<const PatternMethod> table();
  /// A query sees everything before it.
  bool sees_all() const { return !window && !block; }
};
using PatternKind = RowNamed<PatternMethod>;

/// gelu: exact erf, 2 matrices; gelu_tanh: GPT-2's approximation of it; swiglu: 3 matrices.
enum class Ffn { gelu, gelu_tanh, swiglu };
constexpr auto words(Ffn) {
  return std::to_array<Word<Ffn>>({{Ffn::gelu, "gelu"}, {Ffn::gelu_tanh, "gelu_tanh"}, {Ffn::swiglu, "swiglu"}});
}

constexpr auto words(NormKind) {
  return std::to_array<Word<NormKind>>({{NormKind::layernorm, "layernorm"}, {NormKind::rmsnorm, "rmsnorm"}});
}

constexpr auto words(Normalizer) {
  return std::to_array<Word<Normalizer>>(
      {{Normalizer::softmax, "softmax"}, {Normalizer::relu, "relu"}, {Normalizer::landmark, "landmark"}});
}

/// How a model knows where a token stands.
struct PositionConfig {
  PositionKind kind = "xpos";
  double theta = 10000.0;            ///< rotary base
  Scaling scaling = Scaling::none;   ///< of the angles of rotary methods
  double scaling_factor = 1.0;       ///< s = L' / L
  std::int64_t original_length = 0;  ///< the training length L: yarn's ramp, modulo's period, dynamic, llama3, longrope
  double beta_fast = 32.0;           ///< yarn
  double beta_slow = 1.0;            ///< yarn
  double low_freq_factor = 1.0;      ///< llama3
  double high_freq_factor = 4.0;     ///< llama3
  std::vector<double> short_factor;  ///< longrope: a divisor per rotated pair, up to L tokens
  std::vector<double> long_factor;   ///< longrope: the same beyond
  double attention_factor = 0.0;     ///< yarn, longrope: multiplies turned queries and keys; 0: the method's own
  double partial_rotary_factor = 1.0;  ///< of rotary methods: only so much of a head's channels is turned (and decays)
  double p_rope = 1.0;                 ///< of rotary methods: only so many of the turned pairs have a frequency
  PositionSettings own;                ///< of each method
  bool operator==(const PositionConfig&) const = default;
};

/// Which keys a query may see, and what becomes of their scores.
struct AttentionConfig {
  PatternKind pattern = "causal";
  std::int64_t window = 0;  ///< a query at i sees keys j with i - window < j <= i
  std::int64_t block = 0;   ///< blockwise: own block and the previous one (LEX uses L / 2); chunked, shifted: own block
  std::int64_t sinks = 0;   ///< sink_window: the first tokens of the sequence (of the document, if packed) stay visible
  std::int64_t logn_base = 0;    ///< > 0: scores of the query at i times log(i + 1) / log(logn_base)
  bool logn_clip = true;         ///< which is at least 1; false: for models trained with the factor
  double temperature = 1.0;      ///< scores are divided by it
  std::int64_t floor_scale = 0;  ///< > 0: scores times 1 + attn_scale log(1 + floor((i + 1) / floor_scale)) (Llama 4)
  double attn_scale = 0.1;
  bool forget_gate = false;  ///< scores + log sigmoid(w x + b) of each token after the key, up to the query; w and b
                             ///< learned per layer and head (Forgetting Transformer, Lin et al. 2025)
  bool ssmax = false;        ///< scores times s log(visible keys), s learned per layer and head (scalable softmax)
  double softcap = 0.0;      ///< > 0: scores, before the bias, become cap tanh(score / cap) (Gemma 2)
  double clamp = no_clamp;   ///< keys whose score is below it disappear, but for the query's own token; evaluation only
  bool cache_positions = false;  ///< sink_window: distances within the cache, which holds sinks and window without
                                 ///< what lies between (StreamingLLM); all is counted in tokens
  Normalizer normalizer = Normalizer::softmax;
  double relu_gamma = 1.0;  ///< relu: weights are max(score, 0) / (gamma sqrt(visible keys / 2)) (Shen et al. 2023)
  /// landmark: a landmark token stands after every so many tokens of a document, and closes their block (Mohtashami and
  /// Jaggi 2023). Whoever makes batches puts it there: where blocks end is told by the ids alone.
  std::int64_t landmark_every = 0;
  std::int64_t landmark_token = 0;  ///< landmark: its id
  static constexpr double no_clamp = -1e6;
  bool landmarks() const { return normalizer == Normalizer::landmark; }
  bool operator==(const AttentionConfig&) const = default;
};

/// Linear layers that may have a low-rank addition.
enum class AdapterTarget { query, key, value, output, gate, up, down };
constexpr auto words(AdapterTarget) {
  using T = AdapterTarget;
  return std::to_array<Word<T>>({{T::query, "attention.query"},
                                 {T::key, "attention.key"},
                                 {T::value, "attention.value"},
                                 {T::output, "attention.output"},
                                 {T::gate, "ffn.gate"},
                                 {T::up, "ffn.up"},
                                 {T::down, "ffn.down"}});
}

/// Low-rank additions to frozen weights (LoRA, Hu et al. 2021): W x becomes W x + alpha / rank B (A x).
struct AdapterConfig {
  std::int64_t rank = 0;  ///< 0: no additions, everything is trained
  double alpha = 16.0;
  std::vector<AdapterTarget> targets = {AdapterTarget::query, AdapterTarget::key, AdapterTarget::value,
                                        AdapterTarget::output};
  std::string trainable;  ///< also trained: parameters whose names contain one of these, with commas between (LongLoRA:
                          ///< "embedding,norm")
  bool operator==(const AdapterConfig&) const = default;
};

/// What may differ from layer to layer.
struct LayerConfig {
  PositionConfig position;
  AttentionConfig attention;
  bool operator==(const LayerConfig&) const = default;
};

struct ModelConfig {
  std::int64_t vocab = 0;
  std::int64_t layers = 2;
  std::int64_t width = 32;      ///< D
  std::int64_t heads = 4;       ///< H
  std::int64_t kv_heads = 4;    ///< K
  std::int64_t head_width = 0;  ///< E; 0: D / H
  Ffn ffn = Ffn::gelu;
  std::int64_t ffn_width = 128;
  NormKind norm = NormKind::layernorm;
  double norm_eps = 1e-5;
  bool bias = true;             ///< on every linear but the output projection
  bool qkv_bias = false;        ///< on query, key and value although `bias` is false (Qwen2)
  bool qk_norm = false;         ///< RMS norm of each query and key head before it is turned (Qwen3; ops/head_norm.h)
  bool sub_norm = false;        ///< one more norm before the attention output projection and before the last FFN matrix
  bool parallel = false;        ///< x + attention(norm(x)) + ffn(other norm(x)) (GPT-J, GPT-NeoX)
  bool tied = true;             ///< output projection = token embedding
  std::int64_t max_length = 0;  ///< rows of the learned position table
  double logit_softcap = 0.0;   ///< > 0: logits = cap tanh(logits / cap) (Gemma 2)
  PositionConfig position;
  AttentionConfig attention;
  AdapterConfig adapter;

  std::map<std::int64_t, LayerConfig> override;  ///< layers that differ, by their number

  std::int64_t width_of_head() const { return head_width > 0 ? head_width : width / heads; }
  LayerConfig layer(std::int64_t n) const {
    const auto found = override.find(n);
    return found != override.end() ? found->second : LayerConfig{position, attention};
  }
  /// Some layer's angles depend on the length of the sequence at hand, which no part of it shows: it must be whole.
  bool follows_length() const {
    for (std::int64_t n = 0; n < layers; ++n) {
      const PositionConfig own = layer(n).position;
      if (own.kind->rotary && lexring::follows_length(own.scaling)) return true;
    }
    return false;
  }
  /// Some layer's tokens see those after them.
  bool sees_later() const {
    for (const auto& [number, own] : override) {
      if (own.attention.pattern->sees_later) return true;
    }
    return static_cast<std::int64_t>(override.size()) < layers && attention.pattern->sees_later;
  }
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace lexring
