#include "jobs/training/second_look.h"

#include <cmath>
#include <span>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/console.h"
#include "jobs/launch/nodes.h"

namespace lexring {
namespace {

/// "rank 2 (node7) and rank 3 (node7)" of those for which it holds on the rank itself; empty where it holds on none, or
/// on all of several, which tells nothing. Collective.
std::string ranks_where(bool holds, Communicator& world) {
  std::vector<std::int64_t> each(static_cast<std::size_t>(world.size()));
  each[static_cast<std::size_t>(world.rank())] = holds ? 1 : 0;
  world.all_reduce(std::span<std::int64_t>(each), Reduce::sum);
  const std::vector<std::string> nodes = gather_nodes(world);
  std::vector<std::string> names;
  for (std::size_t rank = 0; rank < each.size(); ++rank) {
    if (each[rank] != 0) names.push_back(fmt::format("rank {} ({})", rank, nodes[rank]));
  }
  const bool all = names.size() > 1 && names.size() == each.size();
  return all ? "" : fmt::format("{}", fmt::join(names, " and "));
}

std::string numbers(const StepResult& result) {
  return fmt::format("loss {:.6g}, gradient norm {:.6g}", result.loss, result.gradient_norm);
}

}  // namespace

StepResult compute_with_second_look(Replica& replica, const Context& context, std::int64_t step,
                                    const std::vector<ModelBatch>& micro_batches, const Replica::Tell& tell,
                                    const std::function<bool(const StepResult&)>& doubtful) {
  const StepResult first = replica.compute(micro_batches, tell);
  if (!doubtful(first)) return first;
  Communicator& world = context.world();
  const Replica::OwnPart before = replica.own_part();
  StepResult second = replica.compute(micro_batches);
  second.sums = first.sums;
  const Replica::OwnPart after = replica.own_part();
  const bool transient = !doubtful(second);
  second.second_look = transient ? SecondLook::transient : SecondLook::persistent;
  const bool changed = world.size() == 1 || std::isfinite(before.loss) != std::isfinite(after.loss) ||
                       (std::isfinite(before.loss) && before.loss != after.loss) || before.gradients != after.gradients;
  const std::string changed_on = ranks_where(changed, world), not_finite_on = ranks_where(!before.finite, world);
  if (world.rank() != 0) return second;
  if (transient) {
    say("step {}: {} was a machine's error: computed once more from the same state it is {}, which is used; {}\n", step,
        numbers(first), numbers(second),
        changed_on.empty() ? "no rank's own part tells which" : fmt::format("it was {}", changed_on));
  } else if (!second.finite) {
    say("step {}: {} is not finite, also computed once more from the same state: the data or the model{}\n", step,
        numbers(second), not_finite_on.empty() || world.size() == 1 ? "" : fmt::format(" ({})", not_finite_on));
  }
  return second;
}

}  // namespace lexring
