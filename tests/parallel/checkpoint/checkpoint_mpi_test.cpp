#include <fstream>
#include <optional>

#include "parallel/checkpoint/newest.h"
#include "tests/parallel/checkpoint/checkpoint_fixture.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

/// One directory for all ranks: rank 0's.
class CheckpointMpiTest : public ::testing::Test {
 protected:
  CheckpointMpiTest() {
    if (world->rank() == 0) temporary.emplace();
    const std::string mine = temporary ? temporary->path().string() : "";
    const auto all = world->all_gather(std::as_bytes(std::span(mine)));
    directory = std::filesystem::path(std::string(reinterpret_cast<const char*>(all[0].data()), all[0].size())) / "run";
  }
  ~CheckpointMpiTest() override { world->barrier(); }

  /// [first, first + count) of `rows` for rank `rank` of `ranks`.
  static std::pair<std::int64_t, std::int64_t> share(std::int64_t rows, int rank, int ranks) {
    const std::int64_t begin = rows * rank / ranks;
    return {begin, rows * (rank + 1) / ranks - begin};
  }

  /// Every rank writes its rows of "w"; three tensors that all hold are written by one rank each.
  void save(std::int64_t step) {
    std::vector<LogicalTensor> mine;
    for (const int i : {0, 1, 2}) {
      if (i % world->size() == world->rank())
        mine.push_back(matrix_part<double>(*runtime, names[i], {3, 2}, {0, 0}, {3, 2}));
    }
    const auto [first, count] = share(10, world->rank(), world->size());
    mine.push_back(matrix_part<float>(*runtime, "w", {10, 6}, {first, 0}, {count, 6}));
    CheckpointWriter writer(directory, *world, 2);
    writer.save({step, 0, 0, "", ""}, mine);
    for (bool all_done = false; !all_done;) {  // as training does: the flag rides on the steps' own all-reduce
      std::vector<std::int64_t> done = {writer.shard_done() ? 1 : 0};
      world->all_reduce(std::span(done), Reduce::min);
      all_done = done[0] == 1;
    }
    EXPECT_EQ(writer.publish(), std::nullopt);
  }

  static constexpr const char* names[] = {"x", "y", "z"};
  std::shared_ptr<Communicator> world = lexring::testing::world();
  std::optional<TemporaryDirectory> temporary;
  std::filesystem::path directory;
  std::unique_ptr<Runtime> runtime = make_cpu_runtime();
};

TEST_F(CheckpointMpiTest, RanksWriteTogetherAndReadAnyPart) {
  save(1);
  save(2);
  const CheckpointReader reader(directory);
  EXPECT_EQ(reader.state().step, 2);
  reader.verify(*world);
  expect_part<float>(*runtime, reader, "w", {10, 6}, {0, 0}, {10, 6});
  const auto [first, count] = share(6, world->rank(), world->size());
  expect_part<float>(*runtime, reader, "w", {10, 6}, {0, first}, {10, count});
  for (const char* name : names) expect_part<double>(*runtime, reader, name, {3, 2}, {0, 0}, {3, 2});
}

TEST_F(CheckpointMpiTest, DamageThatOneRankFindsEndsAll) {
  save(1);
  const std::string last = "shard-000" + std::to_string(world->size() - 1) + ".h5";
  if (world->rank() == 0) {
    std::fstream file(directory / "step-00000001" / last, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-3, std::ios::end);
    file.put('!');
  }
  world->barrier();
  expect_contains(error_of([&] { CheckpointReader(directory).verify(*world); }), last + " is damaged");
}

TEST_F(CheckpointMpiTest, DamageThatOneRankFindsSendsAllToTheOneBefore) {
  save(1);
  save(2);
  const std::string last = "shard-000" + std::to_string(world->size() - 1) + ".h5";
  if (world->rank() == 0) {
    std::fstream file(directory / "step-00000002" / last, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-3, std::ios::end);
    file.put('!');
  }
  world->barrier();
  const NewestWhole newest = open_newest_whole(*world, directory);
  EXPECT_EQ(newest.reader.value().state().step, 1);
  expect_contains(newest.passed_over.at(0), last + " is damaged");
  for (const char* name : names) expect_part<double>(*runtime, *newest.reader, name, {3, 2}, {0, 0}, {3, 2});
  world->barrier();
}

TEST_F(CheckpointMpiTest, AllRanksReadTheCheckpointThatRankZeroFinds) {
  save(1);
  save(2);
  const std::filesystem::path nowhere = directory / "nowhere";
  EXPECT_EQ(CheckpointReader(*world, world->rank() == 0 ? directory / "step-00000001" : directory).state().step, 1);
  EXPECT_EQ(find_checkpoint(*world, world->rank() == 0 ? directory : nowhere), directory / "step-00000002");
  EXPECT_FALSE(find_checkpoint(*world, world->rank() == 0 ? nowhere : directory));
  expect_contains(error_of([&] { CheckpointReader(*world, world->rank() == 0 ? nowhere : directory); }),
                  "no complete checkpoint");
  if (world->size() == 1) return;
  const CheckpointReader own(directory / (world->rank() == 1 ? "step-00000001" : "step-00000002"));
  expect_contains(error_of([&] { own.verify(*world); }), "rank 1 has another checkpoint than rank 0");
}

TEST_F(CheckpointMpiTest, AShardThatCannotBeWrittenIsGivenUpByAll) {
  save(1);
  CheckpointWriter writer(directory, *world, 0);
  const int last = world->size() - 1;
  std::vector<LogicalTensor> mine;
  if (world->rank() == last) {
    mine.push_back(matrix_part<float>(*runtime, "a", {2, 2}, {0, 0}, {2, 2}));
    mine.push_back(matrix_part<float>(*runtime, "a/b", {2, 2}, {0, 0}, {2, 2}));  // a dataset cannot be a group too
  }
  writer.save({2, 0, 0, "", ""}, mine);
  const std::string problem = writer.finish().value_or("");
  expect_contains(problem, "a/b");
  EXPECT_EQ(problem.starts_with(fmt::format("rank {}: ", last)), last > 0);
  world->barrier();
  EXPECT_FALSE(std::filesystem::exists(directory / "step-00000002.partial"));
  EXPECT_EQ(find_checkpoint(*world, directory), directory / "step-00000001");
  save(3);
  EXPECT_EQ(find_checkpoint(*world, directory), directory / "step-00000003");
}

TEST_F(CheckpointMpiTest, APartThatTwoRanksWriteIsRefused) {
  CheckpointWriter writer(directory, *world, 0);
  const auto whole = matrix_part<float>(*runtime, "w", {2, 2}, {0, 0}, {2, 2});
  std::vector<LogicalTensor> mine = {whole};
  if (world->size() == 1) mine.push_back(whole);
  expect_contains(error_of([&] { writer.save({1, 0, 0, "", ""}, mine); }), "overlap");
}

TEST_F(CheckpointMpiTest, ADirectoryThatRankZeroCannotMakeIsGivenUpByAll) {
  if (world->rank() == 0) std::ofstream(directory) << "a file";
  world->barrier();
  CheckpointWriter writer(directory, *world, 0);
  writer.save({1, 0, 0, "", ""}, {});
  const std::string problem = writer.finish().value_or("");
  expect_contains(problem, (world->size() > 1 ? "rank 0: " : "") + directory.string());
  EXPECT_FALSE(writer.in_flight());
}

}  // namespace
}  // namespace lexring
