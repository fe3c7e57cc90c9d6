/// Which checkpoints stay, and which one a run goes on from, also when it is killed anywhere in between.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <thread>

#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/local_tier.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/promotion.h"
#include "parallel/checkpoint/steps.h"
#include "tests/parallel/checkpoint/checkpoint_fixture.h"

namespace {
int calls_to_live = -1;  // of rename and fsync, until this process is killed; -1: it is not

void count_down() {
  if (calls_to_live == 0) _exit(9);
  if (calls_to_live > 0) --calls_to_live;
}
}  // namespace

// In the place of the C library's: a kill before any of these calls is a crash between any two things that last.
extern "C" int rename(const char* from, const char* to) noexcept {
  count_down();
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
extern "C" int fsync(int) {
  count_down();
  return 0;  // no power is cut here, and a disk takes its time
}

namespace lexring {
namespace {

class CheckpointBranchTest : public CheckpointTest {
 protected:
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  std::filesystem::path at(std::int64_t step) const { return directory / step_name(step); }
  std::int64_t newest() const {
    const CheckpointReader reader(directory);
    reader.verify(*self);
    return reader.state().step;
  }

  /// Does `work` on copies of the directory, killed before its first rename or fsync, its second, ...; after each kill
  /// `check` looks at what is there. Then does it undisturbed.
  void killed_anywhere(const std::function<void()>& work, const std::function<void()>& check) {
    const auto whole = temporary.path() / "whole";
    std::filesystem::copy(directory, whole, std::filesystem::copy_options::recursive);
    for (int calls = 0;; ++calls) {
      std::filesystem::remove_all(directory);
      std::filesystem::copy(whole, directory, std::filesystem::copy_options::recursive);
      const pid_t child = fork();
      if (child == 0) {
        calls_to_live = calls;
        work();
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      ASSERT_TRUE(WIFEXITED(status));
      SCOPED_TRACE(calls);
      check();
      if (HasFatalFailure() || WEXITSTATUS(status) == 0) break;
      ASSERT_EQ(WEXITSTATUS(status), 9);
      ASSERT_LT(calls, 100);
    }
    std::filesystem::remove_all(whole);
  }
};

using Names = std::vector<std::string>;

TEST_F(CheckpointBranchTest, ARollbackSetsTheLaterOnesAsideAndRotationGoesByTheLiveBranch) {
  for (const std::int64_t step : {4, 8, 12}) save(step, 3);
  const Branch branch = go_on_from(at(4));
  EXPECT_EQ(branch.checkpoint, at(4));
  EXPECT_EQ(branch.set_aside, (Names{"step-00000012", "step-00000008"}));
  EXPECT_EQ(newest(), 4);
  for (const std::int64_t step : {5, 6}) save(step, 3);
  EXPECT_EQ(names(), (Names{"latest", "step-00000004", "step-00000005", "step-00000006",
                            "step-00000008.abandoned-at-00000004", "step-00000012.abandoned-at-00000004"}));
  EXPECT_EQ(newest(), 6);
  for (const std::int64_t step : {7, 8}) save(step, 3);
  EXPECT_EQ(names(), (Names{"latest", "step-00000006", "step-00000007", "step-00000008",
                            "step-00000008.abandoned-at-00000004", "step-00000012.abandoned-at-00000004"}));
}

TEST_F(CheckpointBranchTest, CheckpointsOfAnotherBranchTakeNobodysPlace) {
  for (const std::int64_t step : {4, 8, 12, 5, 6}) save(step, 3);  // as a program that set nothing aside left them
  EXPECT_EQ(names(),
            (Names{"latest", "step-00000004", "step-00000005", "step-00000006", "step-00000008", "step-00000012"}));
  EXPECT_EQ(newest(), 6);
}

TEST_F(CheckpointBranchTest, AnAbandonedOneIsReadByItsNameAndMayComeBack) {
  for (const std::int64_t step : {4, 8, 12}) save(step);
  go_on_from(at(4));
  for (const std::int64_t step : {6, 8}) save(step);
  const auto abandoned = directory / "step-00000008.abandoned-at-00000004";
  EXPECT_EQ(CheckpointReader(abandoned).state().step, 8);
  const Branch branch = go_on_from(abandoned);
  EXPECT_EQ(branch.checkpoint, at(8));
  EXPECT_EQ(branch.set_aside, (Names{"step-00000008", "step-00000006"}));
  EXPECT_EQ(names(), (Names{"latest", "step-00000004", "step-00000006.abandoned-at-00000004", "step-00000008",
                            "step-00000008.abandoned-at-00000004-2", "step-00000012.abandoned-at-00000004"}));
  EXPECT_EQ(newest(), 8);
  EXPECT_EQ(read_text_file(directory / latest_name), "step-00000008\n");
  EXPECT_EQ(go_on_from(directory / "step-00000008.abandoned-at-00000004-2").set_aside, (Names{"step-00000008"}));
}

TEST_F(CheckpointBranchTest, GoingOnFromTheNewestChangesNothing) {
  for (const std::int64_t step : {4, 8}) save(step);
  const auto before = names();
  EXPECT_TRUE(go_on_from(at(8)).set_aside.empty());
  EXPECT_EQ(names(), before);
  std::filesystem::rename(at(8), directory / "step-00000008.old");
  EXPECT_EQ(go_on_from(directory / "step-00000008.old").checkpoint, at(8)) << "a crash left it moved aside";
  EXPECT_EQ(names(), before);
}

TEST_F(CheckpointBranchTest, ARollbackKilledAnywhereIsOneOrNone) {
  for (const std::int64_t step : {4, 8, 12}) save(step);
  killed_anywhere([&] { go_on_from(at(4)); },
                  [&] {
                    const bool begun = newest() == 4;
                    ASSERT_TRUE(begun || newest() == 12);
                    if (!begun) return;
                    go_on_from(find_checkpoint(directory).value());
                    save(5, 2);  // what was left of it does not come back
                    EXPECT_EQ(complete_steps(directory).size(), 2U);
                    EXPECT_EQ(newest(), 5);
                  });
}

TEST_F(CheckpointBranchTest, AReturnKilledAnywhereIsOneOrNone) {
  for (const std::int64_t step : {4, 8, 12}) save(step);
  go_on_from(at(4));
  for (const std::int64_t step : {6, 14}) save(step);
  killed_anywhere([&] { go_on_from(directory / "step-00000008.abandoned-at-00000004"); },
                  [&] {
                    ASSERT_TRUE(newest() == 14 || newest() == 8);
                    if (newest() == 14) return;
                    EXPECT_EQ(go_on_from(find_checkpoint(directory).value()).checkpoint, at(8));
                    EXPECT_EQ(newest(), 8);
                    EXPECT_EQ(complete_steps(directory).size(), 2U);
                  });
}

TEST_F(CheckpointBranchTest, ASaveKilledAnywhereLeavesTheLastOne) {
  for (const std::int64_t step : {4, 8}) save(step);
  killed_anywhere([&] { save(12, 1); },
                  [&] {
                    ASSERT_EQ(newest(), std::filesystem::exists(at(12)) ? 12 : 8);
                    delete_debris(directory);
                    for (const std::string& name : names()) {
                      EXPECT_TRUE(name == "latest" || name == "latest.new" ||
                                  std::filesystem::exists(directory / name / manifest_name))
                          << name;
                    }
                    save(13, 1);
                    EXPECT_EQ(names(), (Names{"latest", "step-00000013"}));
                  });
}

TEST_F(CheckpointBranchTest, ASaveOfTheSameStepKilledAnywhereLeavesOne) {
  for (const std::int64_t step : {4, 8}) save(step);
  killed_anywhere([&] { save(8); }, [&] { EXPECT_EQ(newest(), 8); });
}

/// All of a local save at once.
void save_locally(LocalTier& tier, const TrainingState& state, const LogicalTensor& part) {
  tier.save(state, {part});
  while (tier.in_flight()) {
    if (tier.stage_done()) tier.advance();
    else std::this_thread::yield();
  }
}

TEST_F(CheckpointBranchTest, APromotionKilledAnywhereIsOneOrNone) {
  save(4);
  const auto part = matrix_part<float>(*runtime, "w", {8, 6}, {0, 0}, {8, 6});
  const LocalPlace place(*self, temporary.path() / "local", directory, {"a"});
  {
    LocalTier tier(*self, place);
    save_locally(tier, state_at(8), part);
  }
  killed_anywhere([&] { promote_local(*self, place, 1); },
                  [&] {
                    ASSERT_EQ(newest(), std::filesystem::exists(at(8)) ? 8 : 4);
                    delete_debris(directory);
                    promote_local(*self, place, 1);
                    EXPECT_EQ(newest(), 8);
                    save(9, 1);
                    EXPECT_EQ(names(), (Names{"latest", "local_turn", "step-00000009"}));
                  });
}

TEST_F(CheckpointBranchTest, ALocalSaveKilledAnywhereLeavesOneThatIsWhole) {
  save(4);
  const auto part = matrix_part<float>(*runtime, "w", {8, 6}, {0, 0}, {8, 6});
  const LocalPlace place(*self, temporary.path() / "local", directory, {"a"});
  std::int64_t last = 4;
  killed_anywhere(
      [&] {
        LocalTier tier(*self, place);
        for (const std::int64_t step : {8, 12}) save_locally(tier, state_at(step), part);
      },
      [&] {
        delete_debris(directory);
        promote_local(*self, place, 0);
        const std::int64_t step = newest();
        EXPECT_GE(step, last) << "what was whole before one more call is whole after it";
        last = step;
      });
  EXPECT_EQ(last, 12);
}

TEST_F(CheckpointBranchTest, OnesThatEndInSkippedStepsDisplaceNone) {
  for (const std::int64_t step : {1, 2, 3}) save(step, 2);
  for (const std::int64_t step : {4, 5, 6}) save(step, 2, static_cast<int>(step - 3));
  EXPECT_EQ(names(), (Names{"latest", "step-00000002", "step-00000003", "step-00000006"}));
  EXPECT_EQ(newest(), 6);
  save(7, 2);
  EXPECT_EQ(names(), (Names{"latest", "step-00000003", "step-00000007"}));
}

TEST_F(CheckpointBranchTest, DebrisGoesAndNothingElse) {
  for (const std::int64_t step : {4, 8}) save(step);
  std::filesystem::copy(at(4), directory / "step-00000009.partial");
  std::filesystem::copy(at(4), directory / "step-00000008.old");  // replaced, and not deleted any more
  std::filesystem::create_directories(directory / "step-00000002.deleted");
  std::ofstream(directory / "step-00000002.deleted/shard-0000.h5") << "half of it";
  std::filesystem::create_directories(directory / "step-of-mine.partial");
  std::filesystem::copy(at(4), directory / "step-00000006.abandoned-at-00000004");
  delete_debris(directory);
  EXPECT_EQ(names(), (Names{"latest", "step-00000004", "step-00000006.abandoned-at-00000004", "step-00000008",
                            "step-of-mine.partial"}));
}

TEST_F(CheckpointBranchTest, AnyWayToWriteThePathMeansTheSameCheckpoint) {
  save(4);
  const auto before = std::filesystem::current_path();
  EXPECT_EQ(find_checkpoint(at(4) / ""), at(4));
  EXPECT_EQ(find_checkpoint(directory / "../run/./step-00000004//"), at(4));
  std::filesystem::create_directory_symlink(at(4), temporary.path() / "best");
  EXPECT_EQ(find_checkpoint(temporary.path() / "best"), at(4));
  std::filesystem::current_path(at(4));
  EXPECT_EQ(find_checkpoint("."), at(4));
  std::filesystem::current_path(directory);
  EXPECT_EQ(find_checkpoint("."), at(4));
  EXPECT_EQ(find_checkpoint("step-00000004/"), at(4));
  std::filesystem::current_path(before);
}

TEST_F(CheckpointBranchTest, ACheckpointThatCannotBeReadIsNamedNotPassedOver) {
  for (const std::int64_t step : {4, 8}) save(step);
  std::filesystem::remove(directory / "latest");
  std::filesystem::permissions(temporary.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(at(8), std::filesystem::perms(0));
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && setuid(65534) != 0) _exit(3);  // root may read everything
    const std::string message = error_of([&] { find_checkpoint(directory); });
    _exit(message.starts_with(at(8).string() + ": cannot be read: Permission denied") ? 42 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  std::filesystem::permissions(at(8), std::filesystem::perms(0755));
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

}  // namespace
}  // namespace lexring
