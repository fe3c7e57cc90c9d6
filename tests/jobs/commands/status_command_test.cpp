#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class StatusCommand : public JobTest {
 protected:
  static ProcessResult status(const std::string& paths) { return run_process(binary() + " status " + paths); }
  /// A training that gets a signal after it has written a step more than there were; its exit code.
  static int interrupted(const std::string& name, const std::string& signal) {
    const std::string file = run(name) + "/metrics.jsonl", steps = "$(cat " + file + " 2>/dev/null | wc -l)";
    return run_process("before=" + steps + "; " + train(name, "--train.steps 1000000 --checkpoint.every 10") +
                       " & until [ " + steps + " -gt $((before + 12)) ]; do sleep 0.05; done; kill -" + signal +
                       " $!; wait $!")
        .exit_code;
  }
};

TEST_F(StatusCommand, SaysHowRunsStand) {
  ASSERT_EQ(run_process(train("done/a", "--train.steps 4")).exit_code, 0);
  ProcessResult one = status(run("done"));
  EXPECT_EQ(one.exit_code, 0) << one.output;
  EXPECT_EQ(occurrences(one.output, "finished  4 of 4"), 1) << one.output;
  EXPECT_EQ(occurrences(one.output, "step-00000004, "), 1) << one.output;
  EXPECT_EQ(occurrences(one.output, "1 turn; "), 1) << one.output;

  // To be gone on with, from outside and beside another; a run named twice is shown once.
  ASSERT_EQ(interrupted("stopped", "TERM"), 75);
  ProcessResult both = status(run("done") + " " + run("stopped") + " " + run("stopped"));
  EXPECT_EQ(both.exit_code, 75) << both.output;
  EXPECT_EQ(occurrences(both.output, " stopped "), 1) << both.output;
  EXPECT_EQ(occurrences(both.output, " of 1000000"), 1) << both.output;
}

TEST_F(StatusCommand, ARunThatIsKilledIsNoticedAndTheNextTurnSaysSo) {
  EXPECT_EQ(interrupted("killed", "KILL"), 128 + 9);
  const ProcessResult killed = status(run("killed"));
  EXPECT_EQ(killed.exit_code, 1) << killed.output;
  ASSERT_EQ(occurrences(killed.output, " killed "), 1) << killed.output;
  ASSERT_EQ(interrupted("killed", "TERM"), 75);
  const ProcessResult again = status(run("killed"));
  EXPECT_EQ(again.exit_code, 75) << again.output;
  EXPECT_EQ(occurrences(again.output, "2 turns"), 1) << again.output;
}

TEST_F(StatusCommand, WatchesUntilNothingTrains) {
  ASSERT_EQ(run_process(train("w", "--train.steps 2")).exit_code, 0);
  const ProcessResult watched = status(run("w") + " --watch 0.1");
  EXPECT_EQ(watched.exit_code, 0);
  EXPECT_EQ(occurrences(watched.output, "finished"), 1) << watched.output;
}

TEST_F(StatusCommand, WhatIsNoRunIsRefused) {
  expect_refused(binary() + " status", "lexring status RUN...");
  expect_refused(binary() + " status " + run("none"), "cannot be read: No such file or directory");
  std::filesystem::create_symlink(run("loop"), run("loop"));
  expect_refused(binary() + " status " + run("loop"), "cannot be read: Too many levels of symbolic links");
  std::filesystem::create_directories(run("empty") + "/a/b");
  expect_refused(binary() + " status " + run("empty"), "is no run, and none lies in it");
  expect_refused(binary() + " status " + run("empty") + " --watch -1", "watch");
}

}  // namespace
}  // namespace lexring
