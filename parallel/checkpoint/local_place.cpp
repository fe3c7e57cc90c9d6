#include "parallel/checkpoint/local_place.h"

#include <algorithm>
#include <random>
#include <span>

#include "framework/base/error.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

constexpr const char* turn_name = "local_turn";

/// Rank 0's text on every rank.
std::string of_first(Communicator& world, const std::string& mine) {
  const auto all = world.all_gather(std::as_bytes(std::span(mine)));
  return {reinterpret_cast<const char*>(all[0].data()), all[0].size()};
}

}  // namespace

LocalPlace::LocalPlace(Communicator& world, const std::filesystem::path& local, std::filesystem::path run,
                       std::vector<std::string> nodes)
    : run_(std::move(run)), rank_(static_cast<std::size_t>(world.rank())), nodes_(std::move(nodes)) {
  std::error_code error;
  const auto canonical = std::filesystem::weakly_canonical(run_, error);
  directory_ = local / ("lexring-" + hash_text(of_first(world, (error ? run_ : canonical).string())));
  std::vector<std::string> names;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::string& name = nodes_[static_cast<std::size_t>(rank)];
    const auto node = std::find(names.begin(), names.end(), name) - names.begin();
    if (node == static_cast<std::ptrdiff_t>(names.size())) {
      names.push_back(name);
      ranks_.emplace_back();
    }
    node_of_.push_back(static_cast<int>(node));
    ranks_[static_cast<std::size_t>(node)].push_back(rank);
  }
}

int LocalPlace::place_on_node(int rank) const {
  const auto& ranks = ranks_on(node_of(rank));
  return static_cast<int>(std::find(ranks.begin(), ranks.end(), rank) - ranks.begin());
}

int LocalPlace::keeper_of(int rank) const {
  if (nodes() == 1) return -1;
  const auto& next = ranks_on((node_of(rank) + 1) % nodes());
  return next[static_cast<std::size_t>(place_on_node(rank)) % next.size()];
}

std::optional<std::string> last_turn(const std::filesystem::path& run) {
  if (!std::filesystem::exists(run / turn_name)) return std::nullopt;
  std::string turn = read_text_file(run / turn_name);
  turn.erase(turn.find_last_not_of(" \r\n") + 1);
  if (turn.empty() || turn.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
  return turn;
}

std::string begin_turn(const std::filesystem::path& run) {
  std::random_device random;
  const auto draw = [&] { return static_cast<std::uint64_t>(random()) << 32 | random(); };
  const std::string turn = fmt::format("{:016x}{:016x}", draw(), draw());
  forget_turn(run);  // also where no new one can be written
  replace_text_file(run / turn_name, turn + "\n");
  return turn;
}

void forget_turn(const std::filesystem::path& run) {
  if (!std::filesystem::exists(run / turn_name)) return;
  remove_tree(run / turn_name);
  sync_path(run);
}

}  // namespace lexring
