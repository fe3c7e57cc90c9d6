#include "jobs/training/stragglers.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

/// Steps in which one rank takes long and the others wait for it.
TEST(StragglersMpi, TheRankThatOthersWaitForIsNamedOnceOnAllRanks) {
  const auto world = lexring::testing::world();
  const int ranks = world->size(), slow = ranks - 1;
  Mesh mesh;
  mesh.sizes[static_cast<std::size_t>(Axis::dp)] = ranks;
  const Context context(world, mesh);
  StragglerWatch watch(context, {5, 0.0});
  std::vector<std::pair<std::int64_t, std::string>> said;
  for (std::int64_t step = 1; step <= 22; ++step) {
    const bool sleeps = world->rank() == slow && step <= 12;
    std::this_thread::sleep_for(std::chrono::milliseconds(sleeps ? 120 : 40));
    world->barrier();
    if (const auto text = watch.after_step(step)) said.emplace_back(step, *text);
  }
  if (ranks == 1) {
    EXPECT_TRUE(said.empty());
    return;
  }
  ASSERT_FALSE(said.empty());
  EXPECT_EQ(said[0].first, 7);  // after the two that do not count
  const std::string begin = "in steps 3 to 7 rank " + std::to_string(slow) + " on ";
  EXPECT_EQ(said[0].second.substr(0, begin.size()), begin);
  EXPECT_NE(said.back().second.find("no rank was slow any more"), std::string::npos) << said.back().second;
  EXPECT_GT(said.back().first, 12);
}

}  // namespace
}  // namespace lexring
