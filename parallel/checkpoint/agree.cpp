#include "parallel/checkpoint/agree.h"

#include <algorithm>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "parallel/checkpoint/files.h"

namespace lexring {

namespace {

/// What went wrong on a rank: a letter for its kind ('u': a UsageError), a colon and the message; empty: nothing.
struct Outcome {
  std::string problem;
  std::exception_ptr error;
};

Outcome outcome_of(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const std::bad_alloc&) {
    return {"e:there is not enough memory; use fewer ranks on a node, or a smaller model", std::current_exception()};
  } catch (const std::exception& error) {
    const char kind = dynamic_cast<const UsageError*>(&error) != nullptr ? 'u' : 'e';
    return {fmt::format("{}:{}", kind, error.what()), std::current_exception()};
  }
}

/// The first rank's that is not empty, with its rank.
std::pair<std::size_t, std::string> first_problem(Communicator& world, const std::string& mine) {
  const auto all = world.all_gather(std::as_bytes(std::span(mine)));
  const auto first = std::find_if(all.begin(), all.end(), [](const auto& problem) { return !problem.empty(); });
  if (first == all.end()) return {0, ""};
  return {static_cast<std::size_t>(first - all.begin()),
          std::string(reinterpret_cast<const char*>(first->data()), first->size())};
}

}  // namespace

void agree(Communicator& world, const std::function<void()>& work) {
  const Outcome mine = outcome_of(work);
  const auto [rank, problem] = first_problem(world, mine.problem);
  if (mine.error) std::rethrow_exception(mine.error);
  require_usage(!problem.starts_with("u:"), "rank {}: {}", rank,
                problem.substr(std::min<std::size_t>(2, problem.size())));
  require(problem.empty(), "rank {}: {}", rank, problem.substr(std::min<std::size_t>(2, problem.size())));
}

std::optional<std::string> common_problem(Communicator& world, const std::function<void()>& work) {
  const auto [rank, problem] = first_problem(world, outcome_of(work).problem);
  if (problem.empty()) return std::nullopt;
  return world.size() == 1 ? problem.substr(2) : fmt::format("rank {}: {}", rank, problem.substr(2));
}

void require_same(Communicator& world, const std::string& mine, const std::string& what) {
  const std::string digest = hash_text(mine);
  const auto all = world.all_gather(std::as_bytes(std::span(digest)));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    require(std::ranges::equal(all[rank], all[0]), "rank {} has another {}", rank, what);
  }
}

}  // namespace lexring
