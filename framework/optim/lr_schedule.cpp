#include "framework/optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "framework/base/error.h"

namespace lexring {

void check(const LrSchedule& schedule) {
  require_usage(schedule.lr > 0, "optimizer.lr = {} is not positive; choose e.g. 3e-4", schedule.lr);
  require_usage(schedule.warmup >= 0, "optimizer.warmup = {} is negative; choose a number of steps, 0 for none",
                schedule.warmup);
  require_usage(schedule.power > 0, "optimizer.power = {} is not positive; choose e.g. 1", schedule.power);
  require_usage(
      schedule.final_fraction >= 0 && schedule.final_fraction <= 1,
      "optimizer.final_fraction = {} is not in [0, 1]: it is the part of the learning rate that the decay ends at",
      schedule.final_fraction);
}

double learning_rate(const LrSchedule& schedule, std::int64_t step) {
  if (step < schedule.warmup) return schedule.lr * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  if (schedule.decay == Decay::constant) return schedule.lr;
  const std::int64_t peak = std::max<std::int64_t>(schedule.warmup - 1, 0), last = schedule.steps - 1;
  const double progress = step >= last ? 1.0 : static_cast<double>(step - peak) / static_cast<double>(last - peak);
  double left = 1.0 - progress;
  if (schedule.decay == Decay::cosine) left = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  if (schedule.decay == Decay::polynomial) left = std::pow(left, schedule.power);
  return schedule.lr * (schedule.final_fraction + (1.0 - schedule.final_fraction) * left);
}

}  // namespace lexring
