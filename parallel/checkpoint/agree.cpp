#include "parallel/checkpoint/agree.h"

#include <exception>
#include <string>

#include "framework/base/error.h"

namespace lexring {

void agree(Communicator& world, const std::function<void()>& work) {
  std::string problem;
  std::exception_ptr mine;
  try {
    work();
  } catch (const std::exception& error) {
    mine = std::current_exception();
    problem = error.what();
    if (problem.empty()) problem = "an error without a message";
  }
  const auto problems = world.all_gather(std::as_bytes(std::span(problem)));
  if (mine) std::rethrow_exception(mine);
  for (std::size_t rank = 0; rank < problems.size(); ++rank) {
    const auto& text = problems[rank];
    if (!text.empty()) fail("rank {}: {}", rank, std::string(reinterpret_cast<const char*>(text.data()), text.size()));
  }
}

}  // namespace lexring
