/// The model's configuration: the fields of the reference's Config, Position and Attention, under their names and
/// defaults.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "framework/base/error.h"

namespace lexring {

/// A model that the reference can describe but lexring does not build yet.
class UnsupportedError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// How a model knows where a token stands.
struct PositionConfig {
  std::string kind = "xpos";  ///< none sinusoidal learned rope xpos alibi t5 (later: sandwich kerple_log kerple_power)
  double theta = 10000.0;     ///< rotary base
  double gamma = 0.4;         ///< xpos: zeta_i = (i/(E/2) + gamma) / (1 + gamma)
  double scale_base = 512.0;  ///< xpos: exponent = distance / scale_base
  std::string scaling = "none";      ///< none linear ntk yarn modulo repeat, applied to the angles of rope and xpos
  double scaling_factor = 1.0;       ///< linear, ntk, yarn, repeat: s = L' / L
  std::int64_t original_length = 0;  ///< yarn's ramp, modulo's period: the training length L
  double beta_fast = 32.0;           ///< yarn
  double beta_slow = 1.0;            ///< yarn
  std::int64_t buckets = 32;         ///< t5: half for single distances, half for ranges
  std::int64_t max_distance = 128;   ///< t5: beyond it all distances are in the last bucket
  std::int64_t bar_d = 128;          ///< sandwich
  bool operator==(const PositionConfig&) const = default;
};

/// Which keys a query may see, and how scores become weights.
struct AttentionConfig {
  std::string pattern = "causal";  ///< causal window blockwise sink_window
  std::int64_t window = 0;         ///< a query at i sees keys j with i - window < j <= i
  std::int64_t block = 0;          ///< blockwise: own block causally and the whole previous block; LEX uses L / 2
  std::int64_t sinks = 0;  ///< sink_window: the first tokens of the sequence (of the document, if packed) stay visible
  std::int64_t logn_base = 0;          ///< later: log-n scaling
  std::string normalizer = "softmax";  ///< softmax (later: relu)
  double relu_gamma = 1.0;             ///< relu
  bool operator==(const AttentionConfig&) const = default;
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
  std::int64_t width = 32;    ///< D
  std::int64_t heads = 4;     ///< H; E = D / H
  std::int64_t kv_heads = 4;  ///< K
  std::string ffn = "gelu";   ///< gelu (exact erf; 2 matrices) | swiglu (3 matrices)
  std::int64_t ffn_width = 128;
  std::string norm = "layernorm";  ///< layernorm | rmsnorm
  double norm_eps = 1e-5;
  bool bias = true;             ///< on every linear but the output projection
  bool sub_norm = false;        ///< one more norm before the attention output projection and before the last FFN matrix
  bool tied = true;             ///< output projection = token embedding
  std::int64_t max_length = 0;  ///< rows of the learned position table
  PositionConfig position;
  AttentionConfig attention;

  std::map<std::int64_t, LayerConfig> override;  ///< layers that differ, by their number

  LayerConfig layer(std::int64_t n) const {
    const auto found = override.find(n);
    return found != override.end() ? found->second : LayerConfig{position, attention};
  }
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace lexring
