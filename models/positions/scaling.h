/// Rescalings of rotary angles, by which a model that was trained short is used long. Their formulas are in rotary.h.
#pragma once

#include "framework/base/words.h"

namespace lexring {

enum class Scaling { none, linear, ntk, yarn, modulo, repeat, dynamic, llama3, longrope };
constexpr auto words(Scaling) {
  return std::to_array<Word<Scaling>>({{Scaling::none, "none"},
                                       {Scaling::linear, "linear"},
                                       {Scaling::ntk, "ntk"},
                                       {Scaling::yarn, "yarn"},
                                       {Scaling::modulo, "modulo"},
                                       {Scaling::repeat, "repeat"},
                                       {Scaling::dynamic, "dynamic"},
                                       {Scaling::llama3, "llama3"},
                                       {Scaling::longrope, "longrope"}});
}

/// Which settings of PositionConfig a rescaling reads.
constexpr bool reads_factor(Scaling scaling) { return scaling != Scaling::none && scaling != Scaling::modulo; }
constexpr bool reads_original_length(Scaling scaling) {
  return scaling == Scaling::yarn || scaling == Scaling::modulo || scaling >= Scaling::dynamic;
}
constexpr bool reads_ramp(Scaling scaling) { return scaling == Scaling::yarn; }          ///< beta_fast and beta_slow
constexpr bool reads_band(Scaling scaling) { return scaling == Scaling::llama3; }        ///< low_ and high_freq_factor
constexpr bool reads_divisors(Scaling scaling) { return scaling == Scaling::longrope; }  ///< short_ and long_factor
constexpr bool reads_magnitude(Scaling scaling) {                                        ///< attention_factor
  return scaling == Scaling::yarn || scaling == Scaling::longrope;
}

/// With a factor of 1 it changes nothing.
constexpr bool needs_factor(Scaling scaling) {
  return reads_factor(scaling) && scaling != Scaling::dynamic && scaling != Scaling::longrope;
}
/// Its angles depend on the length of the sequence at hand, so a part of a sequence does not have them.
constexpr bool follows_length(Scaling scaling) { return scaling == Scaling::dynamic || scaling == Scaling::longrope; }

}  // namespace lexring
