/// Evaluations that are stopped or killed, and go on.
#include <fmt/format.h>

#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

/// In small chunks, so that there are many parts.
class EvaluateResume : public JobTest {
 protected:
  void SetUp() override {
    const auto trained = run_process(train("r", "--train.steps 3"));
    ASSERT_EQ(trained.exit_code, 0) << trained.output;
  }
  static std::string losses(const std::string& output, const std::string& more = "") {
    return fmt::format(
        "{} evaluate --checkpoint {} --data {} --lengths 32,64,256 --patterns causal,blockwise,window --tokens 16384 "
        "--resolution 32 --chunk 64 --output {} {}",
        binary(), run("r"), data(), run(output), more);
  }
  static std::string task(const std::string& output) {
    return fmt::format(
        "{} evaluate --checkpoint {} --task passkey --sizes 300,900 --depths 2 --count 40 --patterns causal --chunk 64 "
        "--output {}",
        binary(), run("r"), run(output));
  }
  static std::string parts(const std::string& output) { return run(output) + "/evaluation.parts"; }
  static std::string content(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  /// The command, and `then` as soon as there are so many lines of parts; $pid is its process.
  static ProcessResult interrupted(const std::string& command, const std::string& output, int lines,
                                   const std::string& then) {
    return run_process(
        fmt::format("{} >{}.log 2>&1 & pid=$!\n"
                    "until [ $(cat {} 2>/dev/null | wc -l) -ge {} ] || ! kill -0 $pid; do sleep 0.01; done\n"
                    "{}; wait $pid; code=$?; cat {}.log; exit $code",
                    command, run(output), parts(output), lines, then, run(output)));
  }
  /// Results without times and what was typed.
  static nlohmann::json results(const std::string& output, const std::string& file = "results.json") {
    auto json = nlohmann::json::parse(content(run(output) + "/" + file));
    for (const char* key : {"date", "command"}) json.erase(key);
    for (auto& series : json["series"])
      for (auto& cell : series["cells"])
        for (const char* key : {"seconds", "tokens_per_second"}) cell.erase(key);
    return json;
  }
  static void expect_near(const nlohmann::json& a, const nlohmann::json& b) {
    for (std::size_t s = 0; s < 3; ++s) {
      for (std::size_t c = 0; c < 3; ++c) {
        const auto &one = a["series"][s]["cells"][c], &two = b["series"][s]["cells"][c];
        EXPECT_NEAR(one["loss"].get<double>(), two["loss"].get<double>(), 1e-5);
        EXPECT_EQ(one["segment_tokens"], two["segment_tokens"]);
      }
    }
  }
  static constexpr const char* kill_it = "kill -9 $pid";
  static constexpr const char* kill_ranks = "kill -9 $(cat /proc/$pid/task/$pid/children)";
};

TEST_F(EvaluateResume, GoesOnAfterEveryKillWithTheSameBits) {
  const ProcessResult whole = run_process(losses("whole"));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  int before = 0;
  for (const int lines : {20, 200, 400}) {
    EXPECT_EQ(interrupted(losses("o"), "o", lines, kill_it).exit_code, 128 + 9);
    const int kept = occurrences(content(parts("o")), "\n");
    EXPECT_GE(kept, std::max(lines, before));
    before = kept;
  }
  std::filesystem::resize_file(parts("o"), std::filesystem::file_size(parts("o")) - 10);
  const ProcessResult last = run_process(losses("o"));
  ASSERT_EQ(last.exit_code, 0) << last.output;
  EXPECT_GE(occurrences(last.output, " of 9 cells and a part of the next were there already"), 1) << last.output;
  EXPECT_EQ(occurrences(last.output, "was not written as a whole"), 1) << last.output;
  EXPECT_EQ(results("o"), results("whole"));
  EXPECT_FALSE(std::filesystem::exists(parts("o")));
  expect_refused(losses("o"), "holds an evaluation already");
}

TEST_F(EvaluateResume, GoesOnOnAnotherMesh) {
  const ProcessResult alone = run_process(losses("alone")), three = run_process(mpirun(3) + losses("three"));
  ASSERT_EQ(alone.exit_code, 0) << alone.output;
  ASSERT_EQ(three.exit_code, 0) << three.output;
  // Three ranks, killed twice; on three ranks again.
  for (const int lines : {10, 80}) EXPECT_NE(interrupted(mpirun(3) + losses("o"), "o", lines, kill_ranks).exit_code, 0);
  const ProcessResult same = run_process(mpirun(3) + losses("o"));
  ASSERT_EQ(same.exit_code, 0) << same.output;
  EXPECT_GE(occurrences(same.output, "were there already"), 1) << same.output;
  EXPECT_EQ(results("o"), results("three"));
  // Three ranks, then one, then two that share sequences.
  EXPECT_NE(interrupted(mpirun(3) + losses("p"), "p", 30, kill_ranks).exit_code, 0);
  EXPECT_EQ(interrupted(losses("p"), "p", 160, kill_it).exit_code, 128 + 9);
  const ProcessResult mixed = run_process(mpirun(2) + losses("p", "--mesh.cp 2"));
  ASSERT_EQ(mixed.exit_code, 0) << mixed.output;
  EXPECT_GE(occurrences(mixed.output, "were there already"), 1) << mixed.output;
  expect_near(results("p"), results("alone"));
}

TEST_F(EvaluateResume, ASignalStopsItWithWhatIsDone) {
  for (const int ranks : {1, 3}) {
    const std::string output = fmt::format("o{}", ranks), launcher = ranks > 1 ? mpirun(ranks) : "";
    const ProcessResult stopped = interrupted(launcher + losses(output), output, 30, "kill -USR1 $pid");
    EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
    EXPECT_EQ(occurrences(stopped.output, "done; the same command goes on from there"), 1) << stopped.output;
    EXPECT_FALSE(std::filesystem::exists(run(output) + "/results.json"));
    const ProcessResult rest = run_process(launcher + losses(output));
    EXPECT_EQ(rest.exit_code, 0) << rest.output;
    EXPECT_GE(occurrences(rest.output, "were there already"), 1) << rest.output;
  }
  const auto printed = run_process(
      fmt::format("timeout --preserve-status -s TERM 1 {} evaluate --checkpoint {} --data {} --chunk 1 --lengths 32768",
                  binary(), run("r"), data()));
  EXPECT_EQ(printed.exit_code, 128 + 15) << printed.output;  // without --output
}

TEST_F(EvaluateResume, TasksGoOnToo) {
  const ProcessResult whole = run_process(task("whole"));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_EQ(interrupted(task("o"), "o", 20, kill_it).exit_code, 128 + 9);
  const ProcessResult stopped = interrupted(task("o"), "o", 60, "kill -TERM $pid");
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_NE(interrupted(mpirun(3) + task("o"), "o", 90, kill_ranks).exit_code, 0);
  const ProcessResult rest = run_process(task("o"));
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_GE(occurrences(rest.output, "were there already"), 1) << rest.output;
  EXPECT_EQ(results("o", "tasks.json"), results("whole", "tasks.json"));
}

TEST_F(EvaluateResume, PartsOfAnotherEvaluationAreRefused) {
  EXPECT_EQ(interrupted(losses("o"), "o", 30, kill_it).exit_code, 128 + 9);
  const std::string kept = content(parts("o"));
  expect_refused(losses("o", "--train.precision fp64"),
                 "of another evaluation, which was not finished (train.precision = fp64, there none)");
  ASSERT_EQ(run_process(train("r", "--train.steps 4")).exit_code, 0);
  expect_refused(mpirun(3) + losses("o"), "checkpoint = step 4 with manifest");
  EXPECT_EQ(content(parts("o")), kept);
  // Both begin anew.
  const ProcessResult replaced =
      interrupted(losses("o", "--unfinished replace"), "o", occurrences(kept, "\n") + 20, "kill -TERM $pid");
  EXPECT_EQ(replaced.exit_code, 75) << replaced.output;
  EXPECT_EQ(occurrences(replaced.output, "were there already"), 0) << replaced.output;
  const ProcessResult anew = run_process(losses("o", "--overwrite"));
  EXPECT_EQ(anew.exit_code, 0) << anew.output;
  EXPECT_EQ(occurrences(anew.output, "were there already"), 0) << anew.output;
  // Stopped while it replaces results, it may replace them when it goes on.
  const ProcessResult stopped = interrupted(losses("o", "--overwrite"), "o", 30, "kill -TERM $pid");
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_EQ(occurrences(stopped.output, "the same command without --overwrite goes on"), 1) << stopped.output;
  EXPECT_EQ(run_process(losses("o")).exit_code, 0);
}

TEST_F(EvaluateResume, OneDirectoryIsForOneAtATime) {
  const ProcessResult first = interrupted(
      losses("o"), "o", 10, "kill -STOP $pid; " + losses("o") + "; echo second $?; kill -CONT $pid; kill -TERM $pid");
  EXPECT_EQ(occurrences(first.output, "another lexring evaluates into"), 1) << first.output;
  EXPECT_EQ(occurrences(first.output, "second 2"), 1) << first.output;
  EXPECT_EQ(first.exit_code, 75) << first.output;
}

TEST_F(EvaluateResume, WhatCannotBeWrittenIsSaid) {
  // A limit for files stands for a full disk: parts go first, results last.
  const ProcessResult full = run_process("ulimit -f 1; " + losses("o"));
  EXPECT_EQ(full.exit_code, 1) << full.output;
  EXPECT_EQ(occurrences(full.output, "evaluation.parts cannot be written"), 1) << full.output;
  EXPECT_EQ(occurrences(full.output, "the evaluation goes on"), 1) << full.output;
  EXPECT_EQ(occurrences(full.output, "free some space"), 1) << full.output;
  const ProcessResult after = run_process(losses("o"));
  EXPECT_EQ(after.exit_code, 0) << after.output;
  std::ofstream(run("file")) << "in the way";
  expect_refused(losses("file"), "cannot be made", 1);
  expect_refused(mpirun(2) + losses("file"), "cannot be made", 1);
}

}  // namespace
}  // namespace lexring
