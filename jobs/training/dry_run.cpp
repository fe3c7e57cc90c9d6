#include "jobs/training/dry_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/launch/nodes.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/training/memory.h"
#include "jobs/training/recompute_choice.h"
#include "jobs/training/training_batches.h"
#include "models/parameter_plan.h"

namespace lexring {
namespace {

double elements(const ParameterRow& row) {
  double product = 1;
  for (const std::int64_t size : row.shape) product *= static_cast<double>(size);
  return product;
}

/// Of the whole array over those of one rank of tp.
double parts(const ParameterRow& row, std::int64_t tp, std::int64_t kv_heads) {
  if (row.cut == TensorCut::whole) return 1;
  return static_cast<double>(row.cut == TensorCut::key_value_rows ? std::min(tp, kv_heads) : tp);
}

/// Bytes that a trained parameter takes on each of so many replicas.
double bytes_per_trained(Shard shard, double master, double copy, double replicas) {
  const double own = copy > 0 ? master : 0;  // what only the optimizer reads is sharded too
  switch (shard) {
    case Shard::none:
      break;
    case Shard::state:
      return copy + master + (master - own) + (2 * master + own) / replicas;
    case Shard::gradients:
      return copy + (master - own) + (3 * master + own) / replicas;
  }
  return copy + 4 * master;
}

std::string in_bytes(double bytes) {
  return bytes < 1 << 30 ? fmt::format("{:.1f} MiB", bytes / (1 << 20)) : fmt::format("{:.1f} GiB", bytes / (1 << 30));
}

/// Free bytes of the file system of the nearest directory that is there.
double free_disk(std::filesystem::path path) {
  std::error_code error;
  path = std::filesystem::weakly_canonical(path, error);
  while (!std::filesystem::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  const auto space = std::filesystem::space(path, error);
  return error ? std::nan("") : static_cast<double>(space.available);
}

}  // namespace

TrainingNeeds training_needs(const Options& options, StepShape shape, DeviceType device, double free) {
  const bool exact = shape.runtime.precision == Precision::fp64, half = shape.runtime.precision == Precision::bf16;
  const double master = exact ? 8 : 4, copy = half ? 2 : 0;
  const double replicas = shape.mesh.size(Axis::dp) * shape.mesh.size(Axis::cp);
  std::vector<ParameterRow> plan = parameter_plan(options.model);
  freeze(plan, shape.runtime.frozen);
  TrainingNeeds needs;
  std::map<std::size_t, double> sections;  // bytes of their gradients
  for (const ParameterRow& row : plan) {
    const double all = elements(row), own = all / parts(row, shape.mesh.size(Axis::tp), options.model.kv_heads);
    const double read = row.use == Use::product && row.shape.size() > 1 ? copy : row.use == Use::both ? copy : 0;
    needs.weights += own * (row.trainable ? bytes_per_trained(shape.shard, master, read, replicas) : master + read);
    if (row.trainable) sections[row.section] += own * master;
    needs.checkpoint += all * master * (row.trainable ? 3 : 1);
  }
  if (shape.shard == Shard::gradients && replicas > 1)  // whole for one section at a time
    needs.weights += std::ranges::max_element(sections, {}, [](const auto& section) { return section.second; })->second;
  if (!options.train.recompute)
    shape.runtime.recompute = choose_recompute(shape, device, free - needs.weights).recompute;
  needs.recompute = shape.runtime.recompute;
  needs.step = step_memory(shape, device);
  return needs;
}

MeshChoice planned_mesh(const Options& options, Communicator& world) {
  const MeshKeys& keys = options.mesh;
  const std::int64_t planned = std::max<std::int64_t>(keys.dp, 1) * keys.cp * keys.tp;
  const bool alone = world.size() == 1 && planned > 1 && planned < 1 << 20;
  const std::vector<std::string> nodes =
      alone ? std::vector<std::string>(static_cast<std::size_t>(planned), node_name()) : gather_nodes(world);
  return choose_mesh(keys, options.sequence, options.model, work_shape(options, static_cast<int>(nodes.size())), nodes);
}

int dry_run(const Options& options, const MeshChoice& mesh, const RunDevice& device, const Dataset& train,
            const std::string& start) {
  const Runtime& runtime = device.backend->runtime();
  const double free = free_memory(runtime, *device.world);
  const std::int64_t dp = mesh.mesh.size(Axis::dp);
  const auto ranges = micro_batches(0, options.train.batch, 0, static_cast<int>(dp), options.train.micro_batch);
  StepShape shape{options.model,
                  runtime_of(options),
                  mesh.mesh,
                  options.optimizer.shard,
                  options.train.batch / dp,
                  options.train.length,
                  static_cast<std::int64_t>(ranges.size())};
  shape.runtime.partition = mesh.partition;
  const TrainingNeeds needs = training_needs(options, shape, runtime.device().type, free);
  const double disk = free_disk(options.checkpoint.directory);
  const double kept = options.checkpoint.keep > 0 ? static_cast<double>(options.checkpoint.keep) + 1 : 1;
  const bool other_ranks = mesh.mesh.ranks() != device.world->size();
  const bool too_large = needs.weights + needs.step > free, too_full = kept * needs.checkpoint > disk;
  if (device.world->rank() == 0) {
    const auto tokens = static_cast<double>(options.train.batch * options.train.length);
    const double all = tokens * static_cast<double>(options.train.steps);
    print_result("{}\n", mesh.description);
    print_result("data: {}, {}\n", counted(train.tokens(), "token"),
                 options.train.minutes > 0 ? fmt::format("for {:g} minutes", options.train.minutes)
                                           : fmt::format("{} of {} tokens read {} of them, {:.2f} passes",
                                                         counted(options.train.steps, "step"), format_count(tokens),
                                                         format_count(all), all / static_cast<double>(train.tokens())));
    print_result(
        "memory of a rank, about: {} for weights, gradients and moments, {} for a step with train.recompute = {}; "
        "free here{}: {}\n",
        in_bytes(needs.weights), in_bytes(needs.step), name_of(needs.recompute),
        other_ranks ? " for all ranks of a node" : " for each rank", in_bytes(free));
    print_result("checkpoints: {} each, {} at a time; free at {}: {}\n", in_bytes(needs.checkpoint), kept,
                 options.checkpoint.directory, in_bytes(disk));
    print_result("would begin {}\n", start);
    if (too_large)
      print_result("does not fit: more memory is needed than is free; {}\n",
                   "lower train.micro_batch, or take more ranks of cp or tp, or --optimizer.shard gradients");
    if (too_full) print_result("does not fit: more disk is needed than is free; lower checkpoint.keep, or free some\n");
    print_result("a dry run: nothing was trained, and nothing is left behind\n");
  }
  return too_large || too_full ? 1 : 0;
}

}  // namespace lexring
