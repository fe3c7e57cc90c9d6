#include "parallel/comm/watch/diagnosis.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lexring {
namespace {

constexpr std::size_t most_named = 8;

std::string name_ranks(const std::vector<int>& ranks) {
  const std::vector<int> first(ranks.begin(),
                               ranks.begin() + static_cast<std::ptrdiff_t>(std::min(ranks.size(), most_named)));
  const std::string more = ranks.size() > most_named ? fmt::format(" and {} more", ranks.size() - most_named) : "";
  return fmt::format("{} {}{}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(first, ", "), more);
}

std::string name_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} bytes", bytes);
  if (bytes < 1000000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string last_call_of(const RankState& state) {
  if (state.number == 0) return "it has not begun any call";
  return fmt::format("its last call was {} {} of group {}", state.operation, state.number, state.group);
}

std::string describe_work(int rank, const RankState& state) {
  return fmt::format("Rank {} is alive and not waiting for anybody{}; {}", rank,
                     state.standing.empty() ? ", so it computes, reads or writes" : ": " + state.standing,
                     last_call_of(state));
}

}  // namespace

std::string describe_call(const RankState& state) {
  return fmt::format("{} (call {} of group {}, {})", state.operation, state.number, state.group,
                     name_bytes(state.bytes));
}

Diagnosis diagnose(int rank, const RankState& own, const AskRanks& ask) {
  const std::string begin =
      fmt::format("waits since {:.1f} s for {} in {}", own.seconds, name_ranks(own.peers), describe_call(own));
  std::set<int> asked = {rank};
  std::vector<int> chain, front = own.peers;  // chain: one rank of every step, to show the way
  for (int distance = 1; !front.empty(); ++distance) {
    const auto states = ask(front);
    std::vector<int> silent, next;
    std::string at_work;
    for (const int peer : front) {
      asked.insert(peer);
      const auto state = states.find(peer);
      if (state == states.end()) {
        silent.push_back(peer);
      } else if (!state->second.waits && at_work.empty()) {
        at_work = describe_work(peer, state->second);
      } else {
        next.insert(next.end(), state->second.peers.begin(), state->second.peers.end());
      }
    }
    std::string way;
    for (std::size_t i = 0; i < chain.size(); ++i)
      way += fmt::format("{} {} waits", i == 0 ? ", which waits in turn: rank" : ", rank", chain[i]);
    if (!chain.empty()) way += fmt::format(" for {}", name_ranks(front));
    if (!silent.empty()) {
      return {fmt::format("{}{}. {} does not answer: it was stopped, was killed or is cut off", begin, way,
                          silent.size() == 1 ? fmt::format("Rank {}", silent[0]) : "None of " + name_ranks(silent)),
              distance};
    }
    if (!at_work.empty()) return {fmt::format("{}{}. {}", begin, way, at_work), distance};
    chain.push_back(front.front());
    std::sort(next.begin(), next.end());
    next.erase(std::unique(next.begin(), next.end()), next.end());
    std::erase_if(next, [&](int r) { return asked.count(r) > 0; });
    front = next;
  }
  return {begin +
              ". They all wait for each other: the ranks are not in the same calls. This is a bug; please report it "
              "with the command line",
          static_cast<int>(chain.size())};
}

}  // namespace lexring
