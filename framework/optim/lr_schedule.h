/// Learning rate by step: linear warm-up, then a decay.
#pragma once

#include <cstdint>

#include "framework/base/words.h"

namespace lexring {

enum class Decay { constant, cosine, linear, polynomial };
constexpr auto words(Decay) {
  return std::to_array<Word<Decay>>({{Decay::constant, "constant"},
                                     {Decay::cosine, "cosine"},
                                     {Decay::linear, "linear"},
                                     {Decay::polynomial, "polynomial"}});
}

struct LrSchedule {
  double lr = 3e-4;         ///< the peak, that of the last step of the warm-up (without one, of the first step)
  std::int64_t warmup = 0;  ///< steps; step s < warmup (counted from 0) has lr * (s + 1) / warmup
  std::int64_t steps = 0;   ///< of the whole run; the last one, steps - 1, has the final value
  Decay decay = Decay::cosine;
  double power = 1.0;  ///< polynomial: (1 - progress)^power, progress being 0 at the peak and 1 at the last step
  double final_fraction = 0.0;  ///< of lr, what the decay ends at
};

/// Throws UsageError, naming the key, when a value makes no sense.
void check(const LrSchedule& schedule);

/// The learning rate of step `step`, counted from 0. A pure function, so a resume needs no state. After the last step
/// it stays at the final value.
double learning_rate(const LrSchedule& schedule, std::int64_t step);

}  // namespace lexring
