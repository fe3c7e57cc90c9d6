#include "jobs/commands/mesh.h"

#include <algorithm>

#include <fmt/format.h>

#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/config/options.h"
#include "jobs/launch/fewer_nodes.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring mesh: the mesh of a command on fewer nodes than it was meant for

  lexring mesh --planned 4 --left 3 --ranks 2 train --config configs/lex_paper.ini --mesh.cp 4 --mesh.tp 2

Prints how many nodes to use and the keys to add, e.g. `3 --mesh.dp 1 --mesh.cp 3`. jobs/slurm/launch.sh asks it when a
node is lost. The command, train or evaluate, begins with its name; what it does is the same on every mesh.

tp and a given ulysses stay as they are, and dp divides train.batch, which stays. dp shrinks first, so that no rank is
given more of a sequence than before; cp stays, or grows where it was more than 1. Only where not one replica fits, cp
shrinks. Of these meshes it is the one on most nodes, and of these the one with most replicas. A replica computes as
many sequences at a time as before.

)";

struct Arguments {
  NodeCounts counts;
  std::string command;
  std::vector<std::string> words;  ///< of the command

  std::vector<Key> keys() {
    return {Key{"planned", &counts.planned, "nodes that the command is meant for", "nodes"}.between(1, 1000000),
            Key{"left", &counts.left, "nodes that are left", "nodes"}.between(1, 1000000),
            Key{"ranks", &counts.ranks_per_node, "ranks on a node", "ranks"}.between(1, 1000)};
  }
};

Arguments parse(const std::vector<std::string>& args) {
  Arguments parsed;
  const auto name = std::find_if(args.begin(), args.end(),
                                 [](const std::string& word) { return word == "train" || word == "evaluate"; });
  require_usage(name != args.end(), "there is no command; add train or evaluate and its keys");
  KeyTable table;
  table.add(parsed.keys());
  table.parse_arguments({args.begin(), name});
  parsed.command = *name;
  parsed.words = {name + 1, args.end()};
  return parsed;
}

/// The keys of a mesh among those of `lexring evaluate`, whose others are not looked at.
MeshKeys mesh_among(const std::vector<std::string>& words) {
  std::vector<std::string> chosen;
  bool value = false;
  for (const std::string& word : words) {
    const bool key = word.starts_with("--");
    value = key ? word.starts_with("--mesh.") : value;
    if (value) chosen.push_back(word);
  }
  MeshKeys mesh;
  KeyTable table;
  table.add(mesh_keys(mesh));
  table.parse_arguments(chosen);
  return mesh;
}

}  // namespace

int mesh_command(const std::vector<std::string>& args) {
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    KeyTable table;
    Arguments defaults;
    table.add(defaults.keys());
    print_result("{}{}", usage, table.help());
    return 0;
  }
  const Arguments asked = parse(args);
  const bool trains = asked.command == "train";
  const Options options = trains ? peek_options(read_option_texts(asked.words)) : Options();
  const MeshKeys mesh = trains ? options.mesh : mesh_among(asked.words);
  const FewerNodes found = fit_fewer_nodes(mesh, trains ? options.train.batch : 0, asked.counts);
  std::string line = fmt::format("{} --mesh.dp {} --mesh.cp {}", found.nodes, found.dp, found.cp);
  if (trains && options.train.micro_batch == 0 && found.dp < found.planned_dp)
    line += fmt::format(" --train.micro_batch {}", options.train.batch / found.planned_dp);
  print_result("{}\n", line);
  return 0;
}

}  // namespace lexring
