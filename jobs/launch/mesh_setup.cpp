#include "jobs/launch/mesh_setup.h"

#include <functional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/launch/nodes.h"
#include "models/layer_configs.h"
#include "models/patterns.h"
#include "models/sequence/pass.h"
#include "parallel/heads.h"
#include "parallel/sequence/exchange_choice.h"

namespace lexring {
namespace {

/// "1, 2 or 4": the numbers up to `most` that `fits` accepts.
std::string choices(std::int64_t most, const std::function<bool(std::int64_t)>& fits) {
  std::vector<std::int64_t> numbers;
  for (std::int64_t n = 1; n <= most; ++n) {
    if (fits(n)) numbers.push_back(n);
  }
  if (numbers.size() == 1) return fmt::format("{}", numbers[0]);
  const std::int64_t last = numbers.back();
  numbers.pop_back();
  return fmt::format("{} or {}", fmt::join(numbers, ", "), last);
}

/// Whether every group of `size` neighbouring ranks is on one node.
bool inside_nodes(const std::vector<std::string>& nodes, int size) {
  for (std::size_t r = 0; r < nodes.size(); ++r) {
    if (nodes[r] != nodes[r / static_cast<std::size_t>(size) * static_cast<std::size_t>(size)]) return false;
  }
  return true;
}

void check_tensor_parallel(const MeshKeys& keys, const ModelConfig& model, const std::vector<std::string>& nodes) {
  const auto fits = [&](std::int64_t tp) { return heads_fit(model.heads, model.kv_heads, tp); };
  require_usage(fits(keys.tp), "mesh.tp = {}: {} with {} can be neither split nor replicated for it; choose {}",
                keys.tp, counted(model.heads, "head"), counted(model.kv_heads, "key and value head"),
                choices(model.heads, fits));
  const auto stays = [&](std::int64_t tp) { return inside_nodes(nodes, static_cast<int>(tp)); };
  require_usage(keys.tp_across_nodes || stays(keys.tp),
                "mesh.tp = {}: ranks of one group are on different nodes, and would wait for the network twice in "
                "every layer; choose mesh.tp = {}, place neighbouring ranks on a node (srun --distribution=block, "
                "mpirun --map-by slot), or allow it with --mesh.tp_across_nodes true",
                keys.tp, choices(keys.tp, [&](std::int64_t tp) { return keys.tp % tp == 0 && fits(tp) && stays(tp); }));
}

/// Some layer's heads have different patterns: ranks that had some of them each would not do the same.
bool has_halves(const ModelConfig& model) {
  for (std::int64_t n = 0; n < model.layers; ++n) {
    if (model.layer(n).attention.pattern->halves) return true;
  }
  return false;
}

void check_ulysses(const MeshKeys& keys, const ModelConfig& model) {
  if (keys.ulysses == 0) return;
  require_usage(
      keys.ulysses == 1 || !has_halves(model),
      "mesh.ulysses = {} exchanges heads, but with attention.pattern = shifted half of them sees other blocks; "
      "choose mesh.ulysses = 1",
      keys.ulysses);
  const auto fits = [&](std::int64_t u) {
    return keys.cp % u == 0 && heads_fit(model.heads / keys.tp, kv_heads_of_rank(model.kv_heads, keys.tp), u);
  };
  require_usage(
      keys.ulysses >= 1 && fits(keys.ulysses),
      "mesh.ulysses = {} must divide mesh.cp = {} and the {} of a tensor-parallel rank, and split or replicate its {}; "
      "choose {}, or 0 to have it chosen",
      keys.ulysses, keys.cp, counted(model.heads / keys.tp, "head"),
      counted(kv_heads_of_rank(model.kv_heads, keys.tp), "key and value head"), choices(keys.cp, fits));
}

PartitionKind partition_of(const SequenceKeys& sequence, const ModelConfig& model) {
  const PartitionKind given = sequence.partition;
  return given == PartitionKind::automatic ? default_partition(model) : given;
}

/// How keys travel in one batch of this shape, without documents.
Schedule schedule_of(const SequenceKeys& sequence, const ModelConfig& model, const WorkShape& shape,
                     PartitionKind partition, int ring) {
  const TokenTable tokens = dense_tokens(shape.sequences, shape.length);
  const std::vector<DocumentPlace> places(tokens.position.size(), {0, sinks_of(model), shape.length});
  const Visibility visible = make_pattern(farthest_attention(model))->visibility(tokens, places);
  return make_schedule(Partition(tokens, partition, ring), visible, sequence.exchange);
}

/// The largest divisor of cp such that so many cp neighbours share a node.
int cp_inside_node(const std::vector<std::string>& nodes, int cp, int tp) {
  int most = 1;
  for (int n = 2; n <= cp; ++n) {
    if (cp % n == 0 && inside_nodes(nodes, n * tp)) most = n;
  }
  return most;
}

/// "ranks 0-1 on n1, 2-3 on n2"; the first eight stretches.
std::string describe_nodes(const std::vector<std::string>& nodes) {
  std::string text = "ranks";
  int stretches = 0;
  for (std::size_t first = 0, next = 0; first < nodes.size(); first = next) {
    for (next = first + 1; next < nodes.size() && nodes[next] == nodes[first];) ++next;
    if (++stretches > 8) return fmt::format("{}, ...", text);
    text += fmt::format("{} {}{} on {}", stretches > 1 ? "," : "", first,
                        next > first + 1 ? fmt::format("-{}", next - 1) : "", nodes[first]);
  }
  return text;
}

}  // namespace

MeshChoice choose_mesh(const MeshKeys& keys, const SequenceKeys& sequence, const ModelConfig& model,
                       const WorkShape& shape, const std::vector<std::string>& nodes) {
  const auto ranks = static_cast<int>(nodes.size());
  make_mesh(ranks, keys.dp, keys.cp,
            keys.tp);  // sizes first: what follows divides by them, and relies on that they are small
  const auto dp = static_cast<int>(keys.dp), cp = static_cast<int>(keys.cp), tp = static_cast<int>(keys.tp);
  check_tensor_parallel(keys, model, nodes);
  check_ulysses(keys, model);
  require_usage(sequence.exchange != Exchange::halo || !farthest_attention(model).pattern->sees_all(),
                "sequence.exchange = halo sends only the keys just before a rank's own, but attention.pattern = {} "
                "sees all of them; choose ring, or another pattern",
                farthest_attention(model).pattern->name);
  const bool landmarks = farthest_attention(model).landmarks();
  require_usage(
      !landmarks || sequence.exchange == Exchange::automatic,
      "sequence.exchange = {} with attention.normalizer = landmark: a block's keys must all be there before one "
      "is weighed, so that those of all ranks are gathered; leave it at auto",
      name_of(sequence.exchange));
  const PartitionKind partition = partition_of(sequence, model);
  if (cp == 1)
    return {make_mesh(ranks, dp, cp, tp), partition, Exchange::ring, make_mesh(ranks, dp, cp, tp).describe()};

  ExchangeShape exchange;
  exchange.sequences = shape.sequences;
  exchange.length = shape.length;
  exchange.heads = model.heads / keys.tp;
  exchange.kv_heads = kv_heads_of_rank(model.kv_heads, keys.tp);
  exchange.head_width = model.width_of_head();
  exchange.bytes = shape.bytes;
  exchange.both_sides = farthest_attention(model).pattern->sees_later;
  exchange.cp = cp;
  exchange.cp_inside_node = cp_inside_node(nodes, cp, tp);
  Schedule schedule =
      schedule_of(sequence, model, shape, partition, keys.ulysses > 0 ? cp / static_cast<int>(keys.ulysses) : cp);
  // Where only the ends of a rank's rows travel, nothing is gained from exchanging heads.
  const bool little =
      has_halves(model) || (2 * schedule.busiest().rows <= shape.sequences * shape.length / cp && keys.ulysses <= 1);
  ExchangeChoice choice = choose_exchange(exchange, cpu_speeds, static_cast<int>(little ? 1 : keys.ulysses));
  if (little) choice = {1, "", ""};
  if (choice.ulysses > 1 && choice.ulysses < cp)
    schedule = schedule_of(sequence, model, shape, partition, cp / choice.ulysses);
  const Mesh mesh = make_mesh(ranks, dp, cp, tp, choice.ulysses);
  std::string text = fmt::format("{}, {} partition, {}", mesh.describe(), name_of(partition),
                                 little ? schedule.reason : choice.name + ": " + choice.reason);
  if (landmarks) text += "\nwith landmarks the keys of all places are gathered, whatever goes over a ring otherwise";
  if (choice.ulysses > exchange.cp_inside_node)
    text += "\nmesh.ulysses leaves a node: heads are exchanged over the network in every layer";
  if (!inside_nodes(nodes, ranks)) text += fmt::format("\n{}", describe_nodes(nodes));
  return {mesh, partition, schedule.exchange, text};
}

RunMesh make_run_mesh(const std::shared_ptr<Communicator>& world, const MeshKeys& keys, const SequenceKeys& sequence,
                      const ModelConfig& model, const WorkShape& shape) {
  MeshChoice choice = choose_mesh(keys, sequence, model, shape, gather_nodes(*world));
  return {Context(world, choice.mesh), choice.partition, choice.exchange, std::move(choice.description)};
}

void check_launch(int processes, int slurm_tasks) {
  require_usage(slurm_tasks == 0 || processes == slurm_tasks,
                "MPI joins {}, but SLURM_NTASKS says that there are {}; start all of them with `srun --mpi=pmix` or "
                "`mpirun -n {}`, or, where {} is meant, with `srun -n {}` or with SLURM_NTASKS={} in front",
                counted(processes, "process", "processes"), slurm_tasks, slurm_tasks, processes, processes, processes);
}

}  // namespace lexring
