/// Local checkpoints of ranks that are told to be on several nodes: what survives which loss, and what is never taken.
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <optional>

#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/local_tier.h"
#include "parallel/checkpoint/promotion.h"
#include "parallel/checkpoint/steps.h"
#include "tests/parallel/checkpoint/checkpoint_fixture.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

/// Ranks of two nodes, the first with fewer where they are odd; one directory stands for what all nodes have.
class LocalMpiTest : public ::testing::Test {
 protected:
  LocalMpiTest() {
    if (world->rank() == 0) temporary.emplace();
    const std::string mine = temporary ? temporary->path().string() : "";
    const auto all = world->all_gather(std::as_bytes(std::span(mine)));
    const std::filesystem::path path(std::string(reinterpret_cast<const char*>(all[0].data()), all[0].size()));
    directory = path / "run";
    local = path / "local";
    if (world->rank() == 0) std::filesystem::create_directories(directory);
    world->barrier();
    for (int rank = 0; rank < ranks; ++rank) nodes.emplace_back(rank < ranks / 2 || ranks == 1 ? "a" : "b");
  }
  ~LocalMpiTest() override { world->barrier(); }

  LocalPlace place() const { return {*world, local, directory, nodes}; }
  std::string promoted() const { return promote_local(*world, place(), 0); }

  /// The last rank owns nothing, where there are others; its neighbour gets no copy of it.
  std::vector<LogicalTensor> tensors() const {
    std::vector<LogicalTensor> mine;
    const std::int64_t owners = std::max(1, ranks - 1), rank = world->rank();
    if (rank < owners) {
      const std::int64_t first = 12 * rank / owners, end = 12 * (rank + 1) / owners;
      mine.push_back(matrix_part<float>(*runtime, "w", {12, 600}, {first, 0}, {end - first, 600}));
    }
    return mine;
  }
  static TrainingState state_at(std::int64_t step) { return {step, 0, 0, "", "", 0, {"bpe", "merges"}}; }

  bool all_done(const LocalTier& tier) const {
    std::vector<std::int64_t> done = {tier.stage_done() ? 1 : 0};
    world->all_reduce(std::span(done), Reduce::min);
    return done[0] == 1;
  }
  /// As many stages as there are, or `stages` of them; what it had to say.
  std::string go_on(LocalTier& tier, int stages = 100) const {
    std::string said;
    for (; tier.in_flight() && stages > 0; --stages) {
      while (!all_done(tier)) {
      }
      said += tier.advance().value_or("");
    }
    return said;
  }
  std::string save(LocalTier& tier, std::int64_t step) const {
    tier.save(state_at(step), tensors());
    return go_on(tier);
  }
  void save_shared(std::int64_t step) const {
    CheckpointWriter writer(directory, *world, 0);
    writer.save(state_at(step), tensors());
    ASSERT_EQ(writer.finish(), std::nullopt);
  }

  /// On rank 0, between two barriers.
  template <class Work>
  void once(const Work& work) const {
    world->barrier();
    if (world->rank() == 0) work();
    world->barrier();
  }
  std::filesystem::path of_node(const std::string& node) const {
    return place_.of_turn(last_turn(directory).value()) / node;
  }
  static void flip_a_bit(const std::filesystem::path& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-7, std::ios::end);
    const char byte = static_cast<char>(file.peek() ^ 4);
    file.seekp(-7, std::ios::end);
    file.put(byte);
  }
  void expect_newest(std::int64_t step) const {
    const CheckpointReader reader(*world, directory);
    EXPECT_EQ(reader.state().step, step);
    EXPECT_EQ(reader.state().tokenizer.files, "merges");
    reader.verify(*world);
    expect_part<float>(*runtime, reader, "w", {12, 600}, {0, 0}, {12, 600});
  }

  std::shared_ptr<Communicator> world = lexring::testing::world();
  int ranks = world->size();
  std::optional<TemporaryDirectory> temporary;
  std::filesystem::path directory, local;
  std::vector<std::string> nodes;
  std::unique_ptr<Runtime> runtime = make_cpu_runtime();
  LocalPlace place_ = {*world, "", "", {static_cast<std::size_t>(ranks), "x"}};  // made anew by SetUp
  void SetUp() override { place_ = place(); }
};

TEST_F(LocalMpiTest, EveryShardLiesOnItsNodeAndOnTheNextAndOnlyTheNewest) {
  LocalTier tier(*world, place());
  EXPECT_EQ(save(tier, 10), "");
  EXPECT_EQ(save(tier, 20), "");
  EXPECT_EQ(tier.newest(), 20);
  world->barrier();
  for (const std::string& node : ranks > 1 ? std::vector<std::string>{"a", "b"} : std::vector<std::string>{"a"}) {
    EXPECT_FALSE(std::filesystem::exists(of_node(node) / "step-00000010"));
    for (int rank = 0; rank < std::max(1, ranks - 1); ++rank) {
      const auto name = fmt::format("step-00000020/shard-{:04}.h5", rank);
      const auto own = of_node(nodes[static_cast<std::size_t>(rank)]) / name;
      ASSERT_TRUE(std::filesystem::exists(of_node(node) / name));
      EXPECT_EQ(read_text_file(of_node(node) / name), read_text_file(own));
    }
  }
}

TEST_F(LocalMpiTest, AfterTheLossOfAnyOneNodeItIsPromoted) {
  for (const std::string& lost : std::vector<std::string>{"none", "a", "b"}) {
    if (ranks == 1 && lost == "a") continue;  // nothing would be left
    once([&] {
      std::filesystem::remove_all(directory);
      std::filesystem::create_directories(directory);
    });
    {
      LocalTier tier(*world, place());
      save_shared(5);
      save(tier, 10);
    }
    once([&] { std::filesystem::remove_all(of_node(lost)); });
    expect_contains(promoted(), "the local checkpoint of step 10 on");
    expect_newest(10);
    EXPECT_NE(promoted().find("no local checkpoint of this run that is newer"), std::string::npos);
  }
}

TEST_F(LocalMpiTest, WhereBothCopiesAreLostTheSharedOneIsTakenAndThatIsSaid) {
  {
    LocalTier tier(*world, place());
    save_shared(5);
    save(tier, 10);
  }
  once([&] {
    for (const char* node : {"a", "b"}) std::filesystem::remove(of_node(node) / "step-00000010/shard-0000.h5");
  });
  EXPECT_EQ(promoted(), "the local checkpoint of step 10 cannot be used: no node has shard-0000.h5\n");
  expect_newest(5);
}

TEST_F(LocalMpiTest, AFlippedBitIsFoundAndTheOtherCopyTaken) {
  {
    LocalTier tier(*world, place());
    save_shared(5);
    save(tier, 10);
  }
  const std::string shard = "step-00000010/shard-0000.h5";
  if (ranks > 1) {
    once([&] { flip_a_bit(of_node("a") / shard); });
    expect_contains(promoted(), "the local checkpoint of step 10 on");
    expect_newest(10);
    once([&] {
      delete_step(directory / "step-00000010");
      flip_a_bit(of_node("b") / shard);
    });
  } else {
    once([&] { flip_a_bit(of_node("a") / shard); });
  }
  const std::string said = promoted();
  expect_contains(said, "the local checkpoint of step 10 cannot be used: ");
  expect_contains(said, "shard-0000.h5 is damaged");
  expect_newest(5);
}

TEST_F(LocalMpiTest, WhatAnotherTurnLeftIsNeverTaken) {
  save_shared(5);
  const auto away = local.parent_path() / "away";
  {
    LocalTier tier(*world, place());
    save(tier, 30);
  }
  once([&] { std::filesystem::copy(place_.directory(), away, std::filesystem::copy_options::recursive); });
  {
    LocalTier tier(*world, place());  // the run has gone on from step 5, without these
    once([&] { EXPECT_FALSE(std::filesystem::exists(place_.directory())); });
    save(tier, 10);
  }
  once([&] {  // and the node that had the others is back
    std::filesystem::copy(away, place_.directory(), std::filesystem::copy_options::recursive);
  });
  expect_contains(promoted(), "of step 10 on");
  expect_newest(10);
  once([&] { forget_turn(directory); });
  EXPECT_EQ(promoted(), "");
}

TEST_F(LocalMpiTest, OneThatIsNotNewerThanTheSharedOneIsLeft) {
  LocalTier tier(*world, place());
  save(tier, 10);
  save_shared(10);
  expect_contains(promoted(), "no local checkpoint of this run that is newer");
}

TEST_F(LocalMpiTest, AtTheEndNothingIsLeft) {
  for (int stages = 0; stages < 4; ++stages) {  // whatever is under way
    LocalTier tier(*world, place());
    save(tier, 10);
    tier.save(state_at(20), tensors());
    go_on(tier, stages);
    tier.clear();
    once([&] {
      EXPECT_FALSE(std::filesystem::exists(place_.directory()));
      EXPECT_EQ(last_turn(directory), std::nullopt);
    });
  }
}

/// As after a kill between, or within, any two stages.
TEST_F(LocalMpiTest, ASaveThatEndsInAnyStageLeavesTheOneBeforeOrIsWhole) {
  for (int stages = 0; stages < 4; ++stages) {
    once([&] {
      std::filesystem::remove_all(directory);
      std::filesystem::create_directories(directory);
    });
    {
      LocalTier tier(*world, place());
      save(tier, 10);
      tier.save(state_at(20), tensors());
      go_on(tier, stages);
    }
    expect_contains(promoted(), stages < 2 ? "of step 10 on" : "of step 20 on");
    expect_newest(stages < 2 ? 10 : 20);
  }
}

/// A disk that is full for this process.
class Full {
 public:
  Full() {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{1024, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  Full(const Full&) = delete;
  Full& operator=(const Full&) = delete;
  ~Full() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(LocalMpiTest, AFullDiskOnOneNodeIsToldOnceAndTriedAgain) {
  LocalTier tier(*world, place());
  EXPECT_EQ(save(tier, 10), "");
  const bool chosen = world->rank() == 0;
  for (const std::int64_t step : {20, 30}) {
    std::optional<Full> full;
    if (chosen) full.emplace();
    const std::string said = save(tier, step);
    if (step == 30) {
      EXPECT_EQ(said, "");
      continue;
    }
    expect_contains(said, "local save of step 20 failed: ");
    expect_contains(said, "shard-0000.h5");
    expect_contains(said, "File too large");
    expect_contains(said, "; going on; said once, and tried again");
  }
  EXPECT_EQ(tier.newest(), 10);
  tier.save(state_at(40), tensors());
  go_on(tier, 2);  // messages have come
  {
    std::optional<Full> full;
    if (chosen) full.emplace();
    go_on(tier);
  }
  EXPECT_EQ(tier.newest(), ranks > 1 ? 10 : 40) << "which has no copies to write";
  world->barrier();
  EXPECT_FALSE(std::filesystem::exists(of_node("a") / "step-00000030"));
  EXPECT_EQ(save(tier, 50), "");
  EXPECT_EQ(tier.newest(), 50);
  std::optional<Full> full;
  if (chosen) full.emplace();
  expect_contains(save(tier, 60), "local save of step 60 failed: ");
  full.reset();
  expect_contains(promoted(), "of step 50 on");
  expect_newest(50);
}

/// To go on without it would lose it.
TEST_F(LocalMpiTest, AWholeOneThatCannotBeCopiedIsAnErrorOnAllRanksAndStays) {
  {
    LocalTier tier(*world, place());
    save_shared(5);
    save(tier, 10);
  }
  world->barrier();
  {
    std::optional<Full> full;
    if (world->rank() == 0) full.emplace();
    std::string said;
    try {
      said = promoted();
    } catch (const Error& error) {
      said = error.what();
    }
    expect_contains(said, "the local checkpoint of step 10 is whole on the nodes");
  }
  EXPECT_FALSE(std::filesystem::exists(partial_path(directory, 10)));
  expect_newest(5);
  expect_contains(promoted(), "the local checkpoint of step 10 on");
  expect_newest(10);
}

TEST_F(LocalMpiTest, BytesOfTheNodeThatNeedsMostAreToldAndThatOneNodeHasNoCopies) {
  const auto one_mebibyte = matrix_part<float>(*runtime, "w", {512, 512}, {0, 0}, {512, 512});
  const std::string said = LocalTier(*world, place()).describe({one_mebibyte});
  expect_contains(said,
                  ranks > 1 ? "with a copy on the next of 2 nodes" : "on one node, so that there is none to hold");
  expect_contains(said, fmt::format(": {}.0 MiB on a node, twice that during a save", ranks));
}

}  // namespace
}  // namespace lexring
