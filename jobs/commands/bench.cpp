#include "jobs/commands/bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/backend/profiling.h"
#include "framework/base/console.h"
#include "framework/base/process_memory.h"
#include "framework/base/random.h"
#include "jobs/config/options.h"
#include "jobs/launch/command_start.h"
#include "jobs/training/memory.h"
#include "jobs/training/recompute_choice.h"
#include "jobs/training/replica.h"
#include "jobs/training/traffic.h"
#include "jobs/training/traffic_meter.h"
#include "jobs/training/training_batches.h"
#include "models/config_check.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

using Json = nlohmann::ordered_json;

const char* const usage = R"(lexring bench: time training steps on random tokens; prints one JSON line

  lexring bench --config configs/bench_cpu.ini --train.precision fp32
  mpirun -n 4 lexring bench --config configs/bench_cpu.ini --mesh.cp 2 --mesh.tp 2 --profile

Fields, of all ranks together where nothing else is said:

  tokens_per_second      tokens/s, of the median step
  gflops                 GFLOP/s, of the median step: matrices count 6 x parameters per token, attention 12 x width per
                         visible pair and layer; what train.recompute makes again is not counted
  mfu                    a fraction: gflops over --ceiling times the ranks; only with --ceiling
  seconds_per_step       s, of the median step
  seconds_communicating  s per step with transfers under way, mean over ranks
  seconds_exposed        s per step that waited for them, mean over ranks
  seconds_computing      s per step, the rest
  peak_mib, start_mib    MiB: the largest resident memory of rank 0, and what it held before the model was built
  tensors_peak_mib       MiB: what all tensors of rank 0 held when they held most; of a GPU, in its memory
  step_mib               MiB: of that, what a step adds to values, gradients and moments
  step_formula_mib       MiB: the same by the formula (jobs/training/memory.h)
  recompute              what backward made again
  memory                 MiB: of tensors_peak_mib, by what tensors were for, and what peak_mib has beside them
  communication          for each purpose, per step and mean over ranks: bytes sent by a rank, by the busiest, and
                         by the formula (jobs/training/traffic.h); calls; seconds_busy and seconds_waited in s
  loss                   nats per token, of the last step
  parameters, ranks      numbers
  length, batch          tokens in a sequence, sequences in a step
  device, kernels, precision, mesh    what computed
)";

/// Samples of a step: the same on every rank of a replica, and on every mesh. A sequence is one document.
ModelBatch random_batch(const Options& o, const SampleRange& samples, std::int64_t step) {
  const auto tokens = static_cast<std::uint64_t>(samples.count * o.train.length);
  const std::uint64_t first =
      (static_cast<std::uint64_t>(step * o.train.batch) + samples.first) * static_cast<std::uint64_t>(o.train.length);
  const auto draw = [&](const char* what) {
    std::vector<std::int32_t> ids;
    for (std::uint64_t i = first; i < first + tokens; ++i) {
      const std::uint64_t bits = random_bits(static_cast<std::uint64_t>(o.train.seed), stream_id(what), i);
      ids.push_back(static_cast<std::int32_t>(bits % static_cast<std::uint64_t>(o.model.vocab - o.own_ids())));
    }
    return ids;
  };
  ModelBatch batch =
      make_batch(samples.count, o.train.length, draw("bench.ids"), draw("bench.targets"), {}, sinks_of(o.model));
  const LandmarkSpacing landmarks{landmark_every_of(o.model)};
  for (std::size_t n = 0; n < batch.ids.size(); ++n) {
    if (!landmarks.is_landmark(batch.tokens.position[n])) continue;
    batch.ids[n] = static_cast<std::int32_t>(landmark_of(o.model));
    batch.targets[n] = -1;
  }
  return batch;
}

/// Time per part of a step, the largest first, with the kernels of each.
void print_profile(const std::vector<KernelTime>& times, double total, double steps) {
  std::map<std::string, double> parts;
  double measured = 0;
  for (const KernelTime& time : times) parts[time.part] += time.seconds, measured += time.seconds;
  parts["outside kernels"] = total - measured;
  std::vector<std::pair<std::string, double>> sorted(parts.begin(), parts.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  say("{:<28}{:>12}{:>9}{:>10}\n", "part", "ms/step", "share", "calls");
  for (const auto& [part, seconds] : sorted) {
    say("{:<28}{:>12.2f}{:>8.1f}%\n", part, 1e3 * seconds / steps, 100 * seconds / total);
    for (const KernelTime& time : times) {
      if (time.part != part) continue;
      say("  {:<26}{:>12.2f}{:>8.1f}%{:>10.0f}\n", time.kernel, 1e3 * time.seconds / steps, 100 * time.seconds / total,
          static_cast<double>(time.calls) / steps);
    }
  }
}

double round_to(double value, double parts) { return std::round(value * parts) / parts; }

/// One purpose of communication, per step.
struct Line {
  std::string name;
  double calls, bytes, busiest, formula, busy, waited;  ///< means over ranks; seconds
};

/// Collective.
std::vector<Line> communication(const TrafficMeter& meter, Communicator& world, const StepBytes& formula,
                                double steps) {
  const std::map<std::string, double> expected = {
      {"ring", formula.ring}, {"ulysses", formula.ulysses}, {"tp", formula.tp}, {"gradients", formula.gradients}};
  std::vector<Line> lines;
  for (const AxisTraffic& own : meter.read()) {
    std::array<double, 4> sums = {own.calls, own.bytes, own.busy, own.waited};
    std::array<double, 1> most = {own.bytes};
    world.all_reduce(std::span<double>(sums), Reduce::sum);
    world.all_reduce(std::span<double>(most), Reduce::max);
    const double parts = steps * world.size();
    const auto known = expected.find(own.name);
    const double by_formula = known == expected.end() ? std::nan("") : known->second;
    if (sums[1] > 0)
      lines.push_back(
          {own.name, sums[0] / parts, sums[1] / parts, most[0] / steps, by_formula, sums[2] / parts, sums[3] / parts});
  }
  return lines;
}

/// What the most memory of a step consisted of: tensors by purpose, and what the process holds beside them.
std::vector<std::pair<std::string, double>> memory_shares(const Runtime& runtime) {
  constexpr double mib = 1 << 20;
  std::vector<std::pair<std::string, double>> shares;
  double tensors = 0;
  for (const MemoryShare& share : runtime.shares_at_peak()) {
    if (share.bytes > 0) shares.emplace_back(share.purpose, static_cast<double>(share.bytes) / mib);
    tensors += static_cast<double>(share.bytes) / mib;
  }
  shares.emplace_back("not in tensors", peak_memory_mib() - tensors);
  return shares;
}

void print_memory(const std::vector<std::pair<std::string, double>>& shares) {
  say("{:<52}{:>12}\n", "memory at the peak", "MiB");
  for (const auto& [purpose, mib] : shares) say("  {:<50}{:>12.1f}\n", purpose, mib);
}

void print_communication(const std::vector<Line>& lines) {
  if (lines.empty()) return;
  say("{:<16}{:>12}{:>12}{:>9}{:>12}{:>9}{:>12}{:>12}\n", "communication", "MiB/step", "formula MiB", "ratio",
      "busiest MiB", "calls", "busy ms", "waited ms");
  const double mib = 1 << 20;
  for (const Line& line : lines) {
    const bool known = std::isfinite(line.formula);
    say("{:<16}{:>12.3f}{:>12}{:>9}{:>12.3f}{:>9.0f}{:>12.2f}{:>12.2f}\n", line.name, line.bytes / mib,
        known ? fmt::format("{:.3f}", line.formula / mib) : "-",
        known ? fmt::format("{:.4f}", line.bytes / line.formula) : "-", line.busiest / mib, line.calls, 1e3 * line.busy,
        1e3 * line.waited);
  }
}

Json to_json(const std::vector<std::pair<std::string, double>>& shares) {
  Json json = Json::object();
  for (const auto& [purpose, mib] : shares) json[purpose] = round_to(mib, 10);
  return json;
}

Json to_json(const std::vector<Line>& lines) {
  Json json = Json::object();
  for (const Line& line : lines) {
    json[line.name] = {{"bytes", std::round(line.bytes)},
                       {"formula", std::isfinite(line.formula) ? Json(std::round(line.formula)) : Json()},
                       {"busiest", std::round(line.busiest)},
                       {"calls", round_to(line.calls, 10)},
                       {"seconds_busy", round_to(line.busy, 1e5)},
                       {"seconds_waited", round_to(line.waited, 1e5)}};
  }
  return json;
}

}  // namespace

int bench_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  std::int64_t steps = 8, warmup = 2;
  double ceiling = 0;
  bool profile = false;
  const std::vector<Key> extra = {
      Key{"steps", &steps, "measured steps", "steps"}.between(1, 1e9),
      Key{"warmup", &warmup, "steps before them, which allocate and compile kernels", "steps"}.between(0, 1e9),
      Key{"ceiling", &ceiling, "> 0: what a large matrix product reaches on one such device; adds mfu", "TFLOP/s"}
          .between(0, 1e9),
      {"profile", &profile, "print a table of the time per part and kernel", "", "", {}, true}};
  Options defaults;
  defaults.train.precision = PrecisionChoice::automatic;
  const bool first = world->rank() == 0;
  KeyTable own;
  own.add(extra);
  if (answers_help(args, usage + own.help() + option_keys(defaults).help(), *world)) return 0;
  Options o = parse_options(args, extra, defaults);
  require_usage(
      ceiling == 0 || ceiling >= 1e-6,
      "ceiling = {} TFLOP/s is less than any device has; give what a large product reaches, e.g. 0.5, or leave it out",
      ceiling);
  if (o.model.vocab == 0) o.model.vocab = 256;
  use_last_id_for_landmarks(o.model);
  check(o.model);
  world->set_patience(static_cast<double>(o.watchdog_seconds));
  const CommandPlace place = open_place(o, world);
  const RunMesh& run = place.mesh;
  if (first && world->size() > 1) say("{}\n", run.description);

  ProfilingBackend profiling(*place.device.backend);
  Backend& backend = profile ? static_cast<Backend&>(profiling) : *place.device.backend;
  const double start_mib = resident_memory_mib();
  Replica replica(replica_settings(o), run.context, backend);
  replica.initialise(static_cast<std::uint64_t>(o.train.seed));
  const std::size_t kept = backend.runtime().memory().current;
  settle_recompute(o, replica.model(), run.context);
  const Communicator& dp = run.context.axis(Axis::dp);
  const auto ranges = micro_batches(0, o.train.batch, dp.rank(), dp.size(), o.train.micro_batch);
  StepResult last;
  std::optional<TrafficMeter> meter;
  std::vector<double> seconds;
  for (std::int64_t step = 0; step < warmup + steps; ++step) {
    std::vector<ModelBatch> batches;
    for (const SampleRange& range : ranges) batches.push_back(random_batch(o, range, step));
    if (step == warmup) profiling.reset();
    world->barrier();
    if (step == warmup) meter.emplace(run.context);
    const auto start = std::chrono::steady_clock::now();
    last = replica.step(batches, o.optimizer.lr);
    backend.runtime().synchronise();
    if (step >= warmup)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const double total = std::accumulate(seconds.begin(), seconds.end(), 0.0), count = static_cast<double>(steps);
  std::nth_element(seconds.begin(), seconds.begin() + steps / 2, seconds.end());
  const double median = seconds[static_cast<std::size_t>(steps / 2)];
  StepShape shape = step_shape(o, run.context);
  shape.runtime.partition = run.partition;
  shape.runtime.exchange = run.exchange;
  const std::vector<Line> lines = communication(*meter, *world, step_bytes(shape, replica.model().trained()), count);
  if (!first) return 0;
  if (profile) print_profile(profiling.times(), total, count);
  if (profile) print_communication(lines);
  const MemoryUse memory = backend.runtime().memory();
  const auto shares = memory_shares(backend.runtime());
  if (profile) print_memory(shares);
  double busy = 0, waited = 0;
  for (const Line& line : lines) busy += line.busy, waited += line.waited;
  Json line = {{"tokens_per_second", round_to(static_cast<double>(o.train.batch * o.train.length) / median, 10)},
               {"gflops", round_to(last.flops / median / 1e9, 10)},
               {"peak_mib", round_to(peak_memory_mib(), 10)},
               {"start_mib", round_to(start_mib, 10)},
               {"seconds_per_step", round_to(median, 1e4)},
               {"seconds_computing", round_to(total / count - waited, 1e4)},
               {"seconds_communicating", round_to(busy, 1e4)},
               {"seconds_exposed", round_to(waited, 1e4)},
               {"loss", round_to(last.loss, 1e4)},
               {"device", std::string(backend.name())},
               {"kernels", backend.describe()},
               {"precision", name_of(o.train.precision)},
               {"ranks", world->size()},
               {"mesh", run.context.mesh().describe()},
               {"parameters", replica.model().parameter_count()},
               {"length", o.train.length},
               {"batch", o.train.batch},
               {"communication", to_json(lines)},
               {"tensors_peak_mib", round_to(static_cast<double>(memory.peak) / (1 << 20), 10)},
               {"step_mib", round_to(static_cast<double>(memory.peak - kept) / (1 << 20), 10)},
               {"step_formula_mib", round_to(step_memory(shape, backend.runtime().device().type) / (1 << 20), 10)},
               {"recompute", name_of(shape.runtime.recompute)},
               {"memory", to_json(shares)}};
  if (ceiling > 0) line["mfu"] = round_to(last.flops / median / (ceiling * 1e12 * world->size()), 1e4);
  print_result("{}\n", line.dump());
  return 0;
}

}  // namespace lexring
