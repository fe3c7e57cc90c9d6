/// Rescalings of rotary angles, by which a model that was trained short is used long. Their formulas are in rotary.h.
#pragma once

#include "framework/base/words.h"

namespace lexring {

enum class Scaling { none, linear, ntk, yarn, modulo, repeat };
constexpr auto words(Scaling) {
  return std::to_array<Word<Scaling>>({{Scaling::none, "none"},
                                       {Scaling::linear, "linear"},
                                       {Scaling::ntk, "ntk"},
                                       {Scaling::yarn, "yarn"},
                                       {Scaling::modulo, "modulo"},
                                       {Scaling::repeat, "repeat"}});
}

/// Which settings of PositionConfig a rescaling reads.
constexpr bool reads_factor(Scaling scaling) { return scaling != Scaling::none && scaling != Scaling::modulo; }
constexpr bool reads_original_length(Scaling scaling) { return scaling == Scaling::yarn || scaling == Scaling::modulo; }
constexpr bool reads_ramp(Scaling scaling) { return scaling == Scaling::yarn; }  ///< beta_fast and beta_slow

}  // namespace lexring
