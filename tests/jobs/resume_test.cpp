/// What a run goes on from, what it says of it, and what stays in its directory.
#include <algorithm>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Resume : public JobTest {
 protected:
  using Names = std::vector<std::string>;

  static std::string done(const std::string& command) {
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result.output;
  }
  static std::string refused(const std::string& command, const std::string& message) {
    const ProcessResult result = run_process(command);
    EXPECT_NE(result.exit_code, 0) << command << "\n" << result.output;
    EXPECT_EQ(occurrences(result.output, message), 1) << command << "\n" << result.output;
    return result.output;
  }
  /// The step-* directories of a run.
  static Names steps(const std::string& name) {
    Names names;
    for (const auto& entry : std::filesystem::directory_iterator(run(name))) {
      const std::string file = entry.path().filename().string();
      if (file.starts_with("step-")) names.push_back(file);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream stream(path);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
};

TEST_F(Resume, ARunThatGoesBackKeepsItsStartAndItsNewSteps) {
  done(train("run", "--train.steps 12 --checkpoint.every 4"));
  const std::string keys = "--train.steps 12 --checkpoint.every 1 --train.steps 6 ";
  const std::string said = done(train("run", keys + "--resume " + run("run") + "/step-00000004/"));
  EXPECT_EQ(occurrences(said,
                        "the run goes back to step-00000004: step-00000012, step-00000008 are set aside, as "
                        "step-*.abandoned-at-00000004\n"),
            1)
      << said;
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000005", "step-00000006", "step-00000008.abandoned-at-00000004",
                                 "step-00000012.abandoned-at-00000004"}));
  EXPECT_EQ(occurrences(done(train("run", "--train.steps 7")), "resumed from " + run("run") + "/step-00000006;"), 1);
  const std::string back = done(train("run", "--train.steps 9 --resume " + run("run") + "/step-00000008.abandoned-at-00000004"));
  EXPECT_EQ(occurrences(back, "the run goes back to step-00000008: step-00000007, step-00000006, step-00000005 are set aside"), 1) << back;
  EXPECT_EQ(occurrences(done(train("run", "--train.steps 9")), "already trained for 9 steps"), 1);
}

TEST_F(Resume, StepsThatWereSkippedDisplaceNoGoodCheckpoint) {
  const std::string keys = "--checkpoint.every 1 --checkpoint.keep 3 --optimizer.schedule constant --optimizer.warmup 0 ";
  done(train("run", keys + "--train.steps 5"));
  const std::string diverging = train("run", keys + "--train.steps 100 --optimizer.lr 1e30");
  refused(diverging, "10 steps in a row");
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000005", "step-00000006"}));
  refused(diverging, "10 steps in a row");  // as a job that is started again and again does
  EXPECT_EQ(steps("run"), (Names{"step-00000004", "step-00000005", "step-00000006"}));
  done(train("run", keys + "--train.steps 8 --resume " + run("run") + "/step-00000005"));
  const auto lines = metrics("run");
  ASSERT_EQ(lines.size(), 8U);
  EXPECT_EQ(lines.back()["skipped"], false);
  EXPECT_EQ(steps("run"), (Names{"step-00000006", "step-00000006.abandoned-at-00000005", "step-00000007", "step-00000008"}));
}

TEST_F(Resume, WhatDeadWritersLeftGoesAndWhatALivingOneWritesStays) {
  done(train("run", "--train.steps 2"));
  const std::filesystem::path partial = run("run") + "/step-00000009.partial";
  std::filesystem::create_directories(partial);
  std::ofstream(partial / "shard-0000.h5") << "half of it";
  refused("flock " + run("run") + "/.lock " + train("run", "--train.steps 4"), "is being trained by another lexring");
  EXPECT_TRUE(std::filesystem::exists(partial / "shard-0000.h5"));
  done(train("run", "--train.steps 2"));  // has nothing to do but this
  EXPECT_EQ(steps("run"), (Names{"step-00000002"}));
}

TEST_F(Resume, ARefusedRunLeavesNothing) {
  std::filesystem::create_directories(run("there"));
  for (const std::string& keys : Names{"--train.length 100000", "--model.vocab 100", "--resume " + run("nowhere"), "--model.heads 3",
                                       "--data.valid " + run("missing.h5")}) {
    EXPECT_NE(run_process(train("new", keys)).exit_code, 0) << keys;
    EXPECT_FALSE(std::filesystem::exists(run("new"))) << keys;
    EXPECT_NE(run_process(train("there", keys)).exit_code, 0) << keys;
    EXPECT_TRUE(std::filesystem::is_empty(run("there"))) << keys;
    EXPECT_NE(run_process(mpirun(2) + train("deep/er", keys)).exit_code, 0) << keys;
    EXPECT_FALSE(std::filesystem::exists(run("deep"))) << keys;
  }
  done(train("there", "--train.steps 1"));
}

TEST_F(Resume, ANameThatAnIniFileCannotHoldIsRefusedBeforeAnythingIsMade) {
  for (const std::string& name : Names{"run ", "run\t", "run#1"}) {
    refused(train("x", "--checkpoint.directory '" + run(name) + "'"), "which an INI file cannot hold");
    EXPECT_FALSE(std::filesystem::exists(run(name)));
  }
  refused("cd " + shared().string() + " && " + train("x", "--checkpoint.directory ' run'"), "begins or ends with a space");
  EXPECT_FALSE(std::filesystem::exists(shared() / " run"));
}

TEST_F(Resume, AnyWayToWriteThePathOfACheckpointMeansTheSame) {
  done(train("run", "--train.steps 4"));
  const std::string step = run("run") + "/step-00000004";
  const std::string generate = binary() + " generate --device cpu --temperature 0 --tokens 4 --prompt 'the ring' --checkpoint ";
  const std::string expected = done(generate + run("run"));
  EXPECT_EQ(done(generate + step + "/"), expected);
  EXPECT_EQ(done("cd " + step + " && " + generate + "."), expected);
  EXPECT_EQ(done("cd " + run("run") + " && " + generate + "./step-00000004//"), expected);
  const std::string evaluate =
      binary() + " evaluate --device cpu --lengths 32 --tokens 256 --resolution 0 --data " + data() + " --checkpoint ";
  const auto results = [&](const std::string& name) { return nlohmann::json::parse(text_of(run(name) + "/results.json")); };
  done(evaluate + run("run") + " --output " + run("a"));
  done(evaluate + step + "/ --output " + run("b"));
  done("cd " + step + " && " + evaluate + ". --output " + run("c"));
  for (const char* name : {"b", "c"}) {
    EXPECT_EQ(results(name)["checkpoint"], results("a")["checkpoint"]);
    EXPECT_EQ(text_of(run(name) + "/report.html").find("step-00000004</title>"), std::string::npos);
  }
  EXPECT_EQ(occurrences(text_of(run("b") + "/report.html"), "<svg"), occurrences(text_of(run("a") + "/report.html"), "<svg"))
      << "the training figure is there";
}

}  // namespace
}  // namespace lexring
