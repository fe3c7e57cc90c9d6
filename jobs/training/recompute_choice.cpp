#include "jobs/training/recompute_choice.h"

#include <fmt/format.h>

#include "framework/base/console.h"
#include "jobs/launch/devices.h"
#include "jobs/training/memory.h"

namespace lexring {
namespace {

constexpr double usable = 0.8;

std::string in_mib(double bytes) { return fmt::format("{:.0f} MiB", bytes / (1 << 20)); }

}  // namespace

RecomputeChoice choose_recompute(StepShape shape, DeviceType device, double free) {
  std::string others;
  for (const Recompute what : {Recompute::none, Recompute::attention, Recompute::ffn, Recompute::layer}) {
    shape.runtime.recompute = what;
    const double needed = step_memory(shape, device);
    if (needed <= usable * free)
      return {what, fmt::format("a step takes about {} beside the weights, and a rank may use {} of {} that are free{}",
                                in_mib(needed), in_mib(usable * free), in_mib(free), others)};
    others += fmt::format("; {} takes {}", name_of(what), in_mib(needed));
  }
  return {Recompute::layer,
          fmt::format("the least memory, but more than the {} of {} that a rank may use{}; if that is too much, lower "
                      "train.micro_batch or train.length, or take more ranks of cp or tp",
                      in_mib(usable * free), in_mib(free), others)};
}

void settle_recompute(Options& options, Transformer& model, const Context& context) {
  if (options.train.recompute) return;
  const Runtime& runtime = model.backend().runtime();
  const RecomputeChoice choice =
      choose_recompute(step_shape(options, context), runtime.device().type, free_memory(runtime, context.world()));
  options.train.recompute = choice.recompute;
  model.set_recompute(choice.recompute);
  if (context.world().rank() == 0) say("train.recompute = {}: {}\n", name_of(choice.recompute), choice.why);
}

}  // namespace lexring
