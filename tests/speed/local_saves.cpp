/// What local checkpoints cost the steps during which they are saved.
///
///   mpirun -n 2 local_saves DIRECTORY [MIB [TURNS [SECONDS]]]    of tensors per rank (50), 15 turns, steps of 0.1 s
///
/// Every rank is a node. A step computes for as long as it would take alone, and ends in the small all-reduce. Turns
/// alternate: ten steps without a save, then as many as one save takes, its stages with them. A line per stage: how
/// many steps it took, the median step, and the median of what the call at the step's end took, which nothing hides.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "parallel/checkpoint/local_tier.h"
#include "parallel/comm/host/mpi.h"

namespace {

using namespace lexring;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Work of a fixed amount.
double compute(std::int64_t rounds) {
  double sum = 0;
  for (std::int64_t i = 1; i <= rounds; ++i) sum += 1.0 / static_cast<double>(i);
  return sum;
}

std::int64_t rounds_in(double seconds) {
  constexpr std::int64_t probe = 10'000'000;
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto begin = Clock::now();
    if (compute(probe) < 0) return 0;
    best = std::min(best, since(begin));
  }
  return static_cast<std::int64_t>(probe * seconds / best);
}

struct Times {
  std::vector<double> steps, calls;
};

}  // namespace

int main(int argc, char** argv) {
  MpiSession session(argc, argv);
  Communicator& world = *session.world();
  const auto argument = [&](int i, double otherwise) { return argc > i ? std::atof(argv[i]) : otherwise; };
  const std::filesystem::path directory = argc > 1 ? argv[1] : "";
  if (directory.empty()) return 2;
  const auto rows = static_cast<std::int64_t>(argument(2, 50) * 256);
  std::vector<std::string> nodes;
  for (int rank = 0; rank < world.size(); ++rank) nodes.push_back(fmt::format("node{}", rank));
  if (world.rank() == 0) std::filesystem::create_directories(directory / "run");
  world.barrier();

  const auto runtime = make_cpu_runtime();
  const Tensor data =
      Tensor::from(*runtime, {rows, 1024}, std::vector<float>(static_cast<std::size_t>(rows) * 1024, 1));
  const std::vector<LogicalTensor> tensors = {{"w", {rows * world.size(), 1024}, {rows * world.rank(), 0}, data}};
  LocalTier tier(world, LocalPlace(world, directory / "local", directory / "run", nodes));
  const std::string told = tier.describe(tensors);
  if (world.rank() == 0) fmt::print("{}\n", told);

  const std::int64_t rounds = rounds_in(argument(4, 0.1));
  const char* const stages[] = {"no save",
                                "begin",
                                "write the shard, begin to send",
                                "send, begin the copy",
                                "write the copy, begin to delete",
                                "delete the older one"};
  std::map<int, Times> times;
  volatile double kept = 0;                                // what nobody reads would not be computed
  const auto step = [&](int stage, std::int64_t number) {  // the stage that follows
    const auto begin = Clock::now();
    kept = compute(rounds);
    double done = tier.in_flight() && tier.stage_done() ? 1 : 0;
    world.all_reduce(std::span(&done, 1), Reduce::sum);
    const auto call = Clock::now();
    const bool advances = stage > 1 && done == world.size();
    if (stage == 1) tier.save({number, 0, 0, "", ""}, tensors);
    if (advances && tier.advance() && world.rank() == 0) fmt::print("a save failed\n");
    if (stage < 2 || advances) times[stage].calls.push_back(since(call));
    times[stage].steps.push_back(since(begin));
    return stage == 1 || advances ? stage + 1 : stage;
  };
  const int turns = static_cast<int>(argument(3, 15));
  for (int turn = 1; turn <= turns; ++turn) {
    for (int i = 0; i < 10; ++i) step(0, 0);
    int stage = 1;
    do stage = step(stage, turn);
    while (tier.in_flight());
  }
  if (world.rank() == 0) {
    for (const auto& [stage, t] : times) {
      fmt::print("{:32}  {:5.1f} steps a turn, {:7.1f} ms a step, {:7.2f} ms in the call\n", stages[stage],
                 static_cast<double>(t.steps.size()) / turns, median(t.steps) * 1e3, median(t.calls) * 1e3);
    }
  }
  tier.clear();
  return 0;
}
