#include "jobs/commands/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "framework/backend/profiling.h"
#include "framework/base/random.h"
#include "framework/optim/clip.h"
#include "jobs/metrics.h"
#include "jobs/options.h"
#include "jobs/training_batches.h"
#include "models/transformer.h"
#include "parallel/context.h"

namespace lexring {
namespace {

constexpr std::int64_t warmup_steps = 2;  // they allocate and compile kernels

const char* const usage = R"(lexring bench: time training steps on random tokens; prints one JSON line

  lexring bench --config configs/bench_cpu.ini --train.precision fp32
  lexring bench --config configs/bench_cpu.ini --profile

tokens_per_second and seconds_per_step are of the median step, over all ranks; gflops counts matrices 6 x parameters per token and attention
12 x width per visible pair and layer; peak_mib is the process's largest resident memory, start_mib what it held before the model was built.
)";

/// Samples of a step: the same on every rank of a replica, and on every mesh.
ModelBatch random_batch(const Options& o, const SampleRange& samples, std::int64_t step) {
  const auto tokens = static_cast<std::uint64_t>(samples.count * o.train.length);
  const std::uint64_t first =
      (static_cast<std::uint64_t>(step * o.train.batch) + samples.first) * static_cast<std::uint64_t>(o.train.length);
  const auto draw = [&](const char* what) {
    std::vector<std::int32_t> ids;
    for (std::uint64_t i = first; i < first + tokens; ++i) {
      const std::uint64_t bits = random_bits(static_cast<std::uint64_t>(o.train.seed), stream_id(what), i);
      ids.push_back(static_cast<std::int32_t>(bits % static_cast<std::uint64_t>(o.model.vocab)));
    }
    return ids;
  };
  return make_batch(samples.count, o.train.length, draw("bench.ids"), draw("bench.targets"), {}, o.model.attention.sinks);
}

/// Time per part of a step, the largest first, with the kernels of each.
void print_profile(const std::vector<KernelTime>& times, double total, double steps) {
  std::map<std::string, double> parts;
  double measured = 0;
  for (const KernelTime& time : times) parts[time.part] += time.seconds, measured += time.seconds;
  parts["outside kernels"] = total - measured;
  std::vector<std::pair<std::string, double>> sorted(parts.begin(), parts.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  fmt::print(stderr, "{:<28}{:>12}{:>9}{:>10}\n", "part", "ms/step", "share", "calls");
  for (const auto& [part, seconds] : sorted) {
    fmt::print(stderr, "{:<28}{:>12.2f}{:>8.1f}%\n", part, 1e3 * seconds / steps, 100 * seconds / total);
    for (const KernelTime& time : times) {
      if (time.part != part) continue;
      fmt::print(stderr, "  {:<26}{:>12.2f}{:>8.1f}%{:>10.0f}\n", time.kernel, 1e3 * time.seconds / steps, 100 * time.seconds / total,
                 static_cast<double>(time.calls) / steps);
    }
  }
}

}  // namespace

int bench_command(const std::vector<std::string>& args, const std::shared_ptr<Communicator>& world) {
  std::int64_t steps = 8;
  bool profile = false;
  const std::vector<Key> extra = {{"steps", &steps, "measured steps, after two that are not", "steps"},
                                  {"profile", &profile, "print a table of the time per part and kernel", "", "", {}, true}};
  const bool first = world->rank() == 0;
  if (asks_help(args)) {
    Options defaults;
    KeyTable table;
    table.add(extra);
    if (first) fmt::print("{}{}{}", usage, table.help(), option_keys(defaults).help());
    return 0;
  }
  Options o = parse_options(args, extra);
  require_usage(steps >= 1, "steps = {} is impossible; give at least 1", steps);
  if (o.model.vocab == 0) o.model.vocab = 256;
  check(o.model);
  world->set_patience(static_cast<double>(o.watchdog_seconds));
  const RunMesh run = make_run_mesh(world, o.mesh, o.sequence, o.model, work_shape(o, world->size()));
  const Context& context = run.context;
  const auto ranges = micro_batches(0, o.train.batch, context.axis(Axis::dp).rank(), context.axis(Axis::dp).size(), o.train.micro_batch);
  if (first && world->size() > 1) fmt::print(stderr, "{}\n", run.description);

  const auto device = make_backend(o.device);
  ProfilingBackend profiling(*device);
  Backend& backend = profile ? static_cast<Backend&>(profiling) : *device;
  const double start_mib = resident_memory_mib();
  Transformer model(o.model, runtime_of(o), context, backend);
  model.initialise(static_cast<std::uint64_t>(o.train.seed));
  AdamWOptimizer optimizer(backend, model.parameters(), adamw_hyper(o));

  const double scale = 1.0 / static_cast<double>(o.train.batch * o.train.length);
  std::vector<double> seconds;
  double flops = 0, loss = 0;
  for (std::int64_t step = 0; step < warmup_steps + steps; ++step) {
    if (step == warmup_steps) profiling.reset();
    world->barrier();
    const auto start = std::chrono::steady_clock::now();
    model.zero_gradients();
    flops = loss = 0;
    for (const SampleRange& range : ranges) {
      const ModelBatch batch = random_batch(o, range, step);
      loss += model.train_step(batch, scale).nll_sum * scale;
      flops += model.step_flops(batch);
    }
    const Tensor gradients = model.gradients();
    context.replicas().start_all_reduce({gradients.raw(), gradients.bytes()}, gradients.dtype()).wait();
    optimizer.step(o.optimizer.lr, clip_scale(global_norm(backend, gradients), o.optimizer.clip));
    backend.runtime().synchronise();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  seconds.erase(seconds.begin(), seconds.begin() + warmup_steps);
  double total = 0;
  for (const double s : seconds) total += s;
  std::nth_element(seconds.begin(), seconds.begin() + steps / 2, seconds.end());
  const double median = seconds[static_cast<std::size_t>(steps / 2)];
  context.axis(Axis::dp).all_reduce(std::span<double>(&flops, 1), Reduce::sum);
  context.replicas().all_reduce(std::span<double>(&loss, 1), Reduce::sum);
  if (!first) return 0;
  if (profile) print_profile(profiling.times(), total, static_cast<double>(steps));
  const auto round = [](double value, double parts) { return std::round(value * parts) / parts; };
  const nlohmann::ordered_json line = {{"tokens_per_second", round(static_cast<double>(o.train.batch * o.train.length) / median, 10)},
                                       {"gflops", round(flops / median / 1e9, 10)},
                                       {"peak_mib", round(peak_memory_mib(), 10)},
                                       {"start_mib", round(start_mib, 10)},
                                       {"seconds_per_step", round(median, 1e4)},
                                       {"loss", round(loss, 1e4)},
                                       {"device", std::string(backend.name())},
                                       {"precision", o.train.precision},
                                       {"ranks", world->size()},
                                       {"mesh", context.mesh().describe()},
                                       {"parameters", model.parameter_count()},
                                       {"length", o.train.length},
                                       {"batch", o.train.batch}};
  fmt::print("{}\n", line.dump());
  return 0;
}

}  // namespace lexring
