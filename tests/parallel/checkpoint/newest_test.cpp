#include "parallel/checkpoint/newest.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/steps.h"
#include "tests/parallel/checkpoint/checkpoint_fixture.h"

namespace lexring {
namespace {

/// Two checkpoints, of steps 1 and 2, with a tokenizer's files.
class NewestCheckpoint : public CheckpointTest {
 protected:
  NewestCheckpoint() {
    for (const std::int64_t step : {1, 2}) {
      CheckpointWriter writer(directory, *self, 0);
      TrainingState state = state_at(step);
      state.tokenizer = {"gpt2", "merges and words"};
      writer.save(state, {matrix_part<float>(*runtime, "w", {8, 6}, {0, 0}, {8, 6})});
      EXPECT_FALSE(writer.finish());
    }
  }

  NewestWhole open() const { return open_newest_whole(*self, directory); }
  /// That the run goes on from step 1, and which file is to blame.
  void expect_passed_over(const std::filesystem::path& file, const std::string& how) const {
    const NewestWhole newest = open();
    ASSERT_TRUE(newest.reader.has_value()) << how;
    ASSERT_EQ(newest.reader->state().step, 1) << how;
    ASSERT_EQ(newest.passed_over.size(), 1U) << how;
    ASSERT_NE(newest.passed_over[0].find(file.string()), std::string::npos) << how << ": " << newest.passed_over[0];
  }
  static void write(const std::filesystem::path& file, const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }

  std::filesystem::path first = directory / "step-00000001", second = directory / "step-00000002";
};

TEST_F(NewestCheckpoint, OfAThousandFlippedBitsAndCutsNoneIsTaken) {
  std::mt19937 random(5);
  const auto below = [&](std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
  };
  constexpr const char* names[] = {"manifest.json", "shard-0000.h5", "checkpoint.h5", "tokenizer"};
  for (int round = 0; round < 1000; ++round) {
    const auto file = second / names[round % 4];
    const std::string whole = read_text_file(file);
    std::string damaged = whole;
    const std::size_t place = below(whole.size()), bit = below(8);
    const bool cut = round / 4 % 4 == 3;
    if (cut) damaged.resize(place);
    else damaged[place] = static_cast<char>(damaged[place] ^ (1 << bit));
    write(file, damaged);
    expect_passed_over(file, fmt::format("{} {} at {}, bit {}", names[round % 4], cut ? "cut" : "flipped", place, bit));
    if (HasFatalFailure()) return;
    EXPECT_EQ(find_newest_readable(*self, directory).value().parent_path(), directory);
    write(file, whole);
  }
  EXPECT_EQ(open().reader->state().step, 2);
}

/// It only names one: without it the newest is the one of the highest step, and no damage takes more than going back.
TEST_F(NewestCheckpoint, TheNameOfTheLatestMayBeDamaged) {
  const std::string whole = read_text_file(directory / "latest");
  int gone_back = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    write(directory / "latest", damaged);
    if (open().reader.value().state().step == 1) ++gone_back;
    write(directory / "latest", whole.substr(0, bit / 8));
    EXPECT_EQ(open().reader.value().state().step, 2);
  }
  EXPECT_EQ(gone_back, 0);  // no single bit makes a 1 of a 2
  std::filesystem::remove(directory / "latest");
  EXPECT_EQ(open().reader.value().state().step, 2);
}

TEST_F(NewestCheckpoint, AMissingFile) {
  for (const char* name : {"shard-0000.h5", "checkpoint.h5", "tokenizer", "manifest.json"}) {
    const std::string whole = read_text_file(second / name);
    std::filesystem::remove(second / name);
    const NewestWhole newest = open();
    EXPECT_EQ(newest.reader.value().state().step, 1) << name;
    ASSERT_EQ(newest.passed_over.size(), 1U) << name;
    expect_contains(newest.passed_over[0], std::string(name) == "manifest.json"
                                               ? second.string() + " has no manifest.json"
                                               : (second / name).string() + " is missing");
    write(second / name, whole);
  }
}

TEST_F(NewestCheckpoint, WhereAllAreDamagedNothingBeginsAnew) {
  write(first / "shard-0000.h5", "a");
  write(second / "tokenizer", "a");
  expect_contains(error_of([&] { open(); }), (second / "tokenizer").string() + " is damaged");
  write(second / "manifest.json", "a");
  write(first / "manifest.json", "a");
  expect_contains(error_of([&] { find_newest_readable(*self, directory); }), (first / "manifest.json").string());
  std::filesystem::remove(first / "manifest.json");
  std::filesystem::remove(second / "manifest.json");
  expect_contains(error_of([&] { open(); }), "step-00000002 has no manifest.json");
  EXPECT_FALSE(open_newest_whole(*self, temporary.path() / "nothing").reader.has_value());
}

/// What may pass is no damage: the newest stays the newest.
TEST_F(NewestCheckpoint, ALockedFileIsNotPassedOver) {
  const int other = ::open((second / "shard-0000.h5").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(other, LOCK_EX), 0);
  ASSERT_EQ(::pwrite(other, "a", 1, 40), 1);
  expect_contains(error_of([&] { open(); }), "locked by another program");
  ::close(other);
  expect_passed_over(second / "shard-0000.h5", "unlocked");
}

}  // namespace
}  // namespace lexring
