/// Rotary angles and their tables, shared by rope and xpos.
///
/// Of the E channels of a head the first R = int(E partial_rotary_factor) are turned, in pairs, as if they were a head
/// of that width; of these pairs the first int(p_rope R / 2), the fastest, have a frequency (p-RoPE; Barbero et al.
/// 2024), the others 0.
///
/// Scaling methods (scaling.h) change the angles of a model trained short, to use it long; s = scaling_factor = L' / L,
/// L = original_length, n the length of the sequence at hand:
///   linear    position / s                                  (Chen et al. 2023, position interpolation)
///   ntk       theta' = theta * s^(R / (R - 2))              (bloc97 2023, NTK-aware)
///   yarn      a ramp over channel pairs between f and f / s, and a magnitude (Peng et al. 2023, sections 3.2 and 3.4)
///   modulo    position mod original_length
///   repeat    floor(position / s)                           (every angle serves s neighbours)
///   dynamic   ntk with s' = s n / L - (s - 1) where n > L   (emozilla 2023, as Hugging Face has it)
///   llama3    a ramp between f and f / s over the turns of a pair within L, from low_freq_factor to high_freq_factor
///             (Llama 3.1, 2024)
///   longrope  f / divisor, of short_factor, or of long_factor where n > L, and a magnitude (Ding et al. 2024, as Phi-3
///             has it)
///
/// The magnitude multiplies turned queries and keys, so scores by its square: attention_factor; where that is 0, 0.1 ln
/// s + 1 for yarn and sqrt(1 + ln s / ln L) for longrope, with s at least 1.
#pragma once

#include "framework/attention/rows.h"
#include "models/positions/position.h"

namespace lexring {

/// R. Throws UsageError where it is odd or 0.
std::int64_t rotated_channels(const PositionConfig& config, std::int64_t head_width);

/// Of a head of E channels, in sequences of `length` tokens, which only scalings that follow the length read. Throws
/// UsageError when the values make no sense.
RotaryAngles make_rotary_angles(const PositionConfig& config, std::int64_t head_width, std::int64_t length);

/// Tables cos, sin [N, E/2] of any rows, times the magnitude, computed in f64 and rounded once. In f32 and at whole
/// coordinates cheap enough to make anew for keys that pass by: exact angles every 64 units, turned by one of 64
/// offsets (in f64 too: off by some 1e-16, far below what f32 shows).
RotaryTable make_rotary_table(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype);

/// Tables of this rank's rows: a call with the coordinates of the last one returns its tables. The usual case, since
/// all steps of a training have the same positions.
class RotaryTables {
 public:
  RotaryTable make(Runtime& runtime, const RotaryAngles& angles, const TokenTable& tokens, Dtype dtype);

 private:
  TokenTable tokens_;
  RotaryTable last_;
};

}  // namespace lexring
