/// Rotary angles and their tables, shared by rope and xpos.
///
/// Scaling methods (scaling.h) change the angles of a model trained short, to use it long; s = scaling_factor = L' / L:
///   linear  position / s                                  (Chen et al. 2023, position interpolation)
///   ntk     theta' = theta * s^(E / (E - 2))              (bloc97 2023, NTK-aware)
///   yarn    a ramp over channel pairs between f and f / s, and a temperature (Peng et al. 2023, sections 3.2 and 3.4)
///   modulo  position mod original_length
///   repeat  floor(position / s)                           (every angle serves s neighbours)
#pragma once

#include "framework/attention/rows.h"
#include "models/positions/position.h"

namespace lexring {

/// Throws UsageError when the scaling's values make no sense. E is the head width.
RotaryAngles make_rotary_angles(const PositionConfig& config, std::int64_t head_width);

/// What YaRN multiplies scores by: (0.1 ln s + 1)^2, since it multiplies query and key each; 1 for other scalings.
double rotary_score_scale(const PositionConfig& config);

/// Tables cos, sin [N, E/2] of any rows, computed in f64 and rounded once. In f32 cheap enough to make anew for keys
/// that pass by: exact angles every 64 units, turned by one of 64 offsets (in f64 too: off by some 1e-16, far below
/// what f32 shows).
RotaryTable make_rotary_table(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype);

/// Tables of this rank's rows: a call with the positions of the last one returns its tables. The usual case, since all
/// steps of a training have the same positions.
class RotaryTables {
 public:
  RotaryTable make(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype);

 private:
  std::vector<std::int64_t> positions_;
  RotaryTable last_;
};

}  // namespace lexring
