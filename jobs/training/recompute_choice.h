/// train.recompute = auto: what is made again in backward, by the memory that there is.
#pragma once

#include <string>

#include "jobs/config/options.h"
#include "jobs/training/traffic.h"

namespace lexring {

struct RecomputeChoice {
  Recompute recompute;
  std::string why;  ///< for people
};

/// The first of none, attention, ffn and layer, which compute ever more again, for which step_memory is at most four
/// fifths of `free` bytes: the rest is for the allocator's gaps, messages and libraries. layer where none is. The
/// numbers that a run computes do not depend on it.
RecomputeChoice choose_recompute(StepShape shape, DeviceType device, double free);

/// Where `options` say auto: chooses once `model`, its gradients and moments lie in memory, tells the model, writes the
/// choice into `options`, and says it on rank 0. One choice for all ranks, by the one with the least memory.
/// Collective.
void settle_recompute(Options& options, Transformer& model, const Context& context);

}  // namespace lexring
