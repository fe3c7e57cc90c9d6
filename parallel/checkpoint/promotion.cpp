#include "parallel/checkpoint/promotion.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <sstream>

#include "framework/base/counted.h"
#include "framework/base/error.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/newest.h"
#include "parallel/checkpoint/shard.h"
#include "parallel/checkpoint/steps.h"

namespace lexring {
namespace {

std::vector<std::string> gather(Communicator& world, const std::string& mine) {
  std::vector<std::string> texts;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(mine))))
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return texts;
}

/// What rank 0 sees in the shared directory.
struct Shared {
  std::string turn;               ///< empty: none, or nothing that a start may go on from
  std::int64_t newest_step = -1;  ///< -1: there is no checkpoint
};

/// Where all checkpoints are damaged, any local one is newer.
std::int64_t step_of_newest(const std::filesystem::path& run) {
  try {
    const auto newest = newest_readable(run);
    return newest ? read_manifest(*newest).state.step : -1;
  } catch (const DamagedCheckpoint&) {
    return -1;
  }
}

Shared shared_state(Communicator& world, const std::filesystem::path& run) {
  std::string mine;
  agree(world, [&] {
    if (world.rank() != 0) return;
    mine = fmt::format("{} {}", step_of_newest(run), last_turn(run).value_or(""));
  });
  Shared shared;
  std::istringstream(gather(world, mine)[0]) >> shared.newest_step >> shared.turn;
  return shared;
}

/// The directories of a turn's nodes that this node sees: its own, and after a change of names those of earlier ones.
std::vector<std::filesystem::path> node_directories(const std::filesystem::path& turn) {
  std::vector<std::filesystem::path> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(turn, error), end; !error && entry != end; entry.increment(error))
    found.push_back(entry->path());
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<Manifest> readable_manifest(const std::filesystem::path& directory) {
  try {
    return read_manifest(directory);
  } catch (const std::exception&) {  // another node has the same one
    return std::nullopt;
  }
}

/// The steps after `after` of which this node has a manifest, with it, as text.
std::map<std::int64_t, std::string> manifests_here(const std::filesystem::path& turn, std::int64_t after) {
  std::map<std::int64_t, std::string> found;
  for (const auto& node : node_directories(turn)) {
    for (const auto& step : node_directories(node)) {
      const auto manifest = readable_manifest(step);
      if (manifest && manifest->state.step > after) found.try_emplace(manifest->state.step, to_text(*manifest));
    }
  }
  return found;
}

/// The same, of all nodes; the newest last.
std::map<std::int64_t, Manifest> candidates(Communicator& world, const LocalPlace& place, const Shared& shared) {
  std::string mine;
  if (place.own_place() == 0) {
    for (const auto& [step, text] : manifests_here(place.of_turn(shared.turn), shared.newest_step)) mine += text + '\0';
  }
  std::map<std::int64_t, Manifest> found;
  for (const std::string& texts : gather(world, mine)) {
    std::istringstream stream(texts);
    for (std::string text; std::getline(stream, text, '\0');) {
      Manifest manifest = manifest_from_text(text, "a local manifest");
      found.try_emplace(manifest.state.step, std::move(manifest));
    }
  }
  return found;
}

/// Where this rank's node has a file with the checksum that the manifest says; empty: nowhere. `damage`: gets a line
/// for each one that is there and has another.
std::filesystem::path find_file(const LocalPlace& place, const Shared& shared, std::int64_t step,
                                const ManifestFile& file, std::string& damage) {
  for (const auto& node : node_directories(place.of_turn(shared.turn))) {
    const auto directory = node / step_name(step);
    std::error_code error;
    if (!std::filesystem::exists(directory / file.name, error) && !error) continue;
    try {
      check_file(directory, file, true);
      return directory / file.name;
    } catch (const std::exception& problem) {  // of a failing disk too: the other copy may be whole
      damage += std::string(problem.what()) + "\n";
    }
  }
  return {};
}

/// The files of a manifest that this rank is to copy.
struct Share {
  std::vector<std::filesystem::path> files;
  std::string missing;  ///< why the checkpoint cannot be used, the same on all ranks; empty: all files are found
  int nodes = 0;        ///< that have a part in it
};

std::string line_with(const std::vector<std::string>& texts, const std::string& part) {
  for (const std::string& text : texts) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.find(part) != std::string::npos) return line;
    }
  }
  return "";
}

/// Every node looks for every file, each of its ranks for some; of those who have it, the first rank copies it.
Share find_files(Communicator& world, const LocalPlace& place, const Shared& shared, const Manifest& manifest) {
  const std::size_t count = manifest.files.size(), ranks = place.ranks_on(place.own_node()).size();
  std::vector<std::filesystem::path> here(count);
  std::string mine, damage;  // a letter per file
  for (std::size_t i = 0; i < count; ++i) {
    if (i % ranks == static_cast<std::size_t>(place.own_place()))
      here[i] = find_file(place, shared, manifest.state.step, manifest.files[i], damage);
    mine += here[i].empty() ? '-' : '+';
  }
  const auto have = gather(world, mine), damages = gather(world, damage);
  Share share;
  std::set<int> nodes;
  for (std::size_t i = 0; i < count; ++i) {
    const auto first =
        std::find_if(have.begin(), have.end(), [&](const std::string& files) { return files[i] == '+'; });
    const int rank = static_cast<int>(first - have.begin());
    if (first == have.end()) {
      const std::string why = line_with(damages, "/" + manifest.files[i].name);
      share.missing = why.empty() ? fmt::format("no node has {}", manifest.files[i].name) : why;
      return share;
    }
    nodes.insert(place.node_of(rank));
    if (rank == world.rank()) share.files.push_back(here[i]);
  }
  share.nodes = static_cast<int>(nodes.size());
  return share;
}

void copy_and_sync(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::filesystem::copy_file(from, to);
  sync_path(to);
}

/// Why it could not be done, after which nothing is left of it.
std::optional<std::string> promote(Communicator& world, const LocalPlace& place, const Manifest& manifest,
                                   const Share& share, std::int64_t keep) {
  const auto partial = partial_path(place.run(), manifest.state.step);
  auto problem = common_problem(world, [&] {
    if (world.rank() != 0) return;
    delete_step(partial);
    make_directories(partial);
  });
  if (!problem) {
    problem = common_problem(world, [&] {
      for (const auto& file : share.files) copy_and_sync(file, partial / file.filename());
    });
  }
  if (!problem) {
    problem = common_problem(world, [&] {
      if (world.rank() == 0) complete_step(place.run(), manifest, keep);
    });
  }
  if (problem) {
    static_cast<void>(common_problem(world, [&] {
      if (world.rank() == 0) delete_step(partial);
    }));
  }
  return problem;
}

}  // namespace

std::string promote_local(Communicator& world, const LocalPlace& place, std::int64_t keep) {
  const Shared shared = shared_state(world, place.run());
  if (shared.turn.empty()) return "";
  const auto found = candidates(world, place, shared);
  if (found.empty()) return "no local checkpoint of this run that is newer than its last one is left on these nodes\n";
  std::string lines;
  for (auto candidate = found.rbegin(); candidate != found.rend(); ++candidate) {
    const auto& [step, manifest] = *candidate;
    const Share share = find_files(world, place, shared, manifest);
    if (!share.missing.empty()) {
      lines += fmt::format("the local checkpoint of step {} cannot be used: {}\n", step, share.missing);
      continue;
    }
    const auto problem = promote(world, place, manifest, share, keep);
    // To go on without it would delete it.
    require(
        !problem,
        "the local checkpoint of step {} is whole on the nodes, and newer than the run's last one, but it cannot be "
        "copied to {}: {}; the same command goes on from it once it can, and --resume PATH from another one",
        step, place.run().string(), problem.value_or(""));
    return lines + fmt::format("the local checkpoint of step {} on {} is newer than the run's last one: it is {} now\n",
                               step, counted(share.nodes, "node"), step_name(step));
  }
  return lines;
}

}  // namespace lexring
