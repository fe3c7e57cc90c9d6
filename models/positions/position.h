/// Position methods: how a model knows where a token stands. One encoding per file, with its row of the table
/// (method.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/attention/form.h"
#include "framework/autograd/tape.h"
#include "models/config.h"
#include "models/parameter_row.h"
#include "parallel/heads.h"

namespace lexring {

/// Angles of rotated channel pairs: angle[n, i] = position(coordinate of n) * frequency[i], in f64.
struct RotaryAngles {
  std::vector<double> frequency;           ///< [E/2]; 0: the pair stays as it is
  std::vector<double> magnitude;           ///< [E/2]; turned queries and keys are each multiplied by it
  std::function<double(double)> position;  ///< coordinate -> what the angle is computed from
  double unit = 1.0;                       ///< of whole coordinates, `position` gives multiples of it
};

/// One method, configured. Defaults: it does nothing.
class PositionEncoding {
 public:
  PositionEncoding() = default;
  PositionEncoding(const PositionEncoding&) = delete;
  PositionEncoding& operator=(const PositionEncoding&) = delete;
  virtual ~PositionEncoding() = default;

  /// Writes what it needs into the form of attention; heads, head_width and scale are set.
  virtual void shape(AttentionForm&) const {}
  /// Angles in a sequence of `length` tokens, for methods that set form.rotary; nullopt otherwise.
  virtual std::optional<RotaryAngles> rotary(std::int64_t /*length*/) const { return std::nullopt; }
  /// The bias's slope for each of `heads` heads; empty: none.
  virtual std::vector<float> slopes(std::int64_t /*heads*/) const { return {}; }
  /// A constant added to the token embeddings, row-major [N, D]; empty: none.
  virtual std::vector<double> added(const std::vector<double>& /*coordinates*/, std::int64_t /*width*/) const {
    return {};
  }
  /// The parameter whose rows, by position, are added to the token embeddings; empty: none.
  virtual std::string added_parameter() const { return ""; }

  /// Its own parameters, shared by all layers that use the method. They need no section.
  virtual std::vector<ParameterRow> parameters(const ModelConfig&) const { return {}; }
  /// The bias's table [H, distances] of this rank's heads (`own`), in `master`, for distances up to `longest`, made on
  /// the tape from the parameters; absent: none. With `log_distance`, that of a bias by relative distance
  /// (ScoreBias).
  virtual Var bias_by_distance(Tape&, const PositionParameters&, const HeadShare& /*own*/, std::int64_t /*longest*/,
                               Dtype /*master*/) const {
    return {};
  }
  /// Whether it tells keys after the query from those before it, where a pattern shows both; its tables are then
  /// those of sided_bias.
  virtual bool sided() const { return false; }
  /// Throws UsageError where its settings are none for keys on both sides.
  virtual void check_sided() const {}
  /// bias_by_distance of keys up to the query, or of those after it (`later`), by m - n.
  virtual Var sided_bias(Tape&, const PositionParameters&, bool /*later*/, std::int64_t /*longest*/,
                         Dtype /*master*/) const {
    return {};
  }
  /// For a bias by relative distance, ScoreBias::log_distance of distances up to `longest`; undefined: it has none.
  virtual Tensor log_distance(Runtime&, const PositionParameters&, std::int64_t /*longest*/, Dtype /*master*/) const {
    return {};
  }
};

/// Throws UsageError when the values of the kind make no sense.
std::unique_ptr<PositionEncoding> make_position(const ModelConfig& model, const PositionConfig& position);

/// One per file.
namespace position_methods {
extern const PositionMethod none, sinusoidal, learned, rope, xpos, alibi, t5, sandwich, kerple_log, kerple_power, fire;
}

}  // namespace lexring
