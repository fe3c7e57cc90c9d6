#include "parallel/checkpoint/agree.h"

#include <algorithm>
#include <exception>
#include <new>
#include <span>
#include <string>

#include <fmt/format.h>

#include "framework/base/error.h"
#include "parallel/checkpoint/files.h"

namespace lexring {

void agree(Communicator& world, const std::function<void()>& work) {
  std::string problem;  // of which kind, and its message
  std::exception_ptr mine;
  try {
    work();
  } catch (const std::bad_alloc&) {
    mine = std::current_exception();
    problem = "e:there is not enough memory; use fewer ranks on a node, or a smaller model";
  } catch (const std::exception& error) {
    mine = std::current_exception();
    problem = fmt::format("{}:{}", dynamic_cast<const UsageError*>(&error) != nullptr ? 'u' : 'e', error.what());
  }
  const auto problems = world.all_gather(std::as_bytes(std::span(problem)));
  if (mine) std::rethrow_exception(mine);
  for (std::size_t rank = 0; rank < problems.size(); ++rank) {
    const std::string text(reinterpret_cast<const char*>(problems[rank].data()), problems[rank].size());
    require_usage(!text.starts_with("u:"), "rank {}: {}", rank, text.substr(std::min<std::size_t>(2, text.size())));
    require(text.empty(), "rank {}: {}", rank, text.substr(std::min<std::size_t>(2, text.size())));
  }
}

void require_same(Communicator& world, const std::string& mine, const std::string& what) {
  const std::string digest = hash_text(mine);
  const auto all = world.all_gather(std::as_bytes(std::span(digest)));
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    require(std::ranges::equal(all[rank], all[0]), "rank {} has another {}", rank, what);
  }
}

}  // namespace lexring
