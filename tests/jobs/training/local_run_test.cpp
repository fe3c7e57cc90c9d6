/// Runs that are killed and go on from what their nodes kept.
#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class LocalRun : public JobTest {
 protected:
  static std::string done(const std::string& command) {
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result.output;
  }
  static std::string keys(const std::string& steps) {
    return "--optimizer.schedule constant --checkpoint.local_every 5 --checkpoint.local " + run("local") +
           " --train.steps " + steps;
  }
  /// Two ranks, killed without a warning once a local checkpoint is there; the step of the newest.
  static std::int64_t killed(const std::string& name) {
    const std::string pids = run("pids");
    const std::string rank = "bash -c 'echo $$ >>" + pids + "; exec " + train(name, keys("1000000")) + "'";
    run_process("rm -f " + pids + "; " + mpirun(2) + rank + R"( &
until ls )" + run("local") +
                R"(/*/*/*/step-*/manifest.json >/dev/null 2>&1; do sleep 0.05; kill -0 $! || exit 1; done
kill -KILL $(cat )" +
                pids + R"()
wait $!)");
    std::int64_t newest = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run("local"))) {
      const auto step = entry.path().parent_path().filename().string();
      if (entry.path().filename() == "manifest.json")
        newest = std::max<std::int64_t>(newest, std::stoll(step.substr(5)));
    }
    EXPECT_GT(newest, 0);
    return newest;
  }
};

TEST_F(LocalRun, AKilledRunGoesOnFromMemoryAsIfNothingHadHappened) {
  const std::int64_t step = killed("run");
  const std::string steps = std::to_string(step + 7);
  const std::string said = done(mpirun(2) + train("run", keys(steps)));
  EXPECT_EQ(occurrences(said, "the local checkpoint of step " + std::to_string(step) + " on 1 node is newer"), 1)
      << said;
  EXPECT_EQ(occurrences(said, ", resumed from " + run("run") + "/step-0"), 1) << said;
  EXPECT_EQ(occurrences(said, "on one node, so that there is none to hold a copy"), 1) << said;
  EXPECT_TRUE(std::filesystem::is_empty(run("local")));
  done(mpirun(2) + train("whole", "--optimizer.schedule constant --train.steps " + steps));
  EXPECT_EQ(trajectory("run"), trajectory("whole"));
}

TEST_F(LocalRun, WhoBeginsAnewTakesNothing) {
  killed("run");
  const std::string said = done(train("run", keys("3") + " --resume none"));
  EXPECT_EQ(occurrences(said, ", from the start;"), 1) << said;
  EXPECT_EQ(occurrences(said, "newer than"), 0) << said;
  EXPECT_EQ(metrics("run").size(), 3U);
  EXPECT_TRUE(std::filesystem::is_empty(run("local")));
}

TEST_F(LocalRun, WhoGoesOnWithoutLocalCheckpointsDoesNotMeetThemAgain) {
  const std::int64_t step = killed("run");
  done(train("run", "--optimizer.schedule constant --train.steps 3"));
  EXPECT_FALSE(std::filesystem::exists(run("run") + "/local_turn"));
  EXPECT_EQ(metrics("run").size(), 3U);
  const std::string said = done(train("run", keys(std::to_string(std::min<std::int64_t>(step, 4) + 2))));
  EXPECT_EQ(occurrences(said, "resumed from " + run("run") + "/step-00000003;"), 1) << said;
}

TEST_F(LocalRun, ADamagedCheckpointDoesNotHideAWholeLocalOne) {
  done(train("run", keys("2")));
  done(train("run", keys("3")));
  const std::string step = std::to_string(killed("run"));
  std::ofstream(run("run") + "/step-00000003/manifest.json") << "{}";
  const std::string said = done(train("run", keys(std::to_string(std::stoll(step) + 1))));
  EXPECT_EQ(occurrences(said, "the local checkpoint of step " + step + " on 1 node is newer"), 1) << said;
}

TEST_F(LocalRun, AWholeOneThatCannotBeCopiedEndsTheStartAndIsNotLost) {
  const std::string step = std::to_string(killed("run"));
  const std::string command = train("run", keys(std::to_string(std::stoll(step) + 1)));
  expect_refused("ulimit -f 40; " + command, "the local checkpoint of step " + step + " is whole on the nodes", 1);
  const std::string said = done(command);
  EXPECT_EQ(occurrences(said, "the local checkpoint of step " + step + " on 1 node is newer"), 1) << said;
}

TEST_F(LocalRun, ADirectoryThatCannotBeMadeIsToldOnceAndTheRunEndsWell) {
  const std::string said =
      done(train("run", "--checkpoint.local /proc/lexring --checkpoint.local_every 1 --train.steps 30"));
  EXPECT_EQ(occurrences(said, "local save of step "), 1) << said;
  EXPECT_EQ(occurrences(said, "failed: /proc/lexring"), 1) << said;
}

}  // namespace
}  // namespace lexring
