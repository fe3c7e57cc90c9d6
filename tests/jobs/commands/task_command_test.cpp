/// Tasks from the making of their texts to the score of a model that was trained on them.
#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class TaskCommands : public JobTest {
 protected:
  static std::string prepare(const std::string& keys) {
    return binary() + " prepare --output " + run("task") + ".h5 --overwrite " + keys;
  }
  static std::string evaluate(const std::string& keys) {
    return binary() + " evaluate --checkpoint " + run("r") + " " + keys;
  }
};

TEST_F(TaskCommands, AModelLearnsATaskAndIsScoredOnIt) {
  const ProcessResult made = run_process(prepare("--task first --sizes 1,2 --count 2000 --seed 1"));
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_EQ(occurrences(made.output, "2000 texts of task first, 2000 answers, in windows of 6 tokens"), 1)
      << made.output;
  const std::string train = binary() + " train --model.layers 2 --model.width 32 --model.heads 2 --train.batch 32 " +
                            "--optimizer.warmup 10 --optimizer.lr 0.01 --checkpoint.every 0 --data.train " +
                            run("task") + ".h5 --checkpoint.directory " + run("r");
  const ProcessResult other_length = run_process(train + " --train.length 8 --train.steps 1");
  EXPECT_EQ(other_length.exit_code, 2);
  EXPECT_EQ(occurrences(other_length.output, "set train.length = 6"), 1) << other_length.output;
  const ProcessResult trained = run_process(train + " --train.length 6 --train.steps 300");
  ASSERT_EQ(trained.exit_code, 0) << trained.output;

  const ProcessResult scored =
      run_process(evaluate("--task first --sizes 2,1,30 --count 200 --seed 9 --patterns causal --output " + run("o")));
  ASSERT_EQ(scored.exit_code, 0) << scored.output;
  EXPECT_EQ(occurrences(scored.output, "100.0 % (98.1 to 100.0)"), 2) << scored.output;
  std::ifstream stream(run("o") + "/tasks.json");
  const auto json = nlohmann::json::parse(stream);
  EXPECT_EQ(json["series"][0]["cells"][0]["right"], 200);
  EXPECT_EQ(json["series"][0]["cells"][2]["size"], 30);
  EXPECT_EQ(json["series"][0]["cells"][2]["answers"], 200);
  std::ifstream csv(run("o") + "/tasks.csv");
  std::string line;
  ASSERT_TRUE(std::getline(csv, line) && std::getline(csv, line));
  EXPECT_NE(line.find("_r,causal,1,,200,200,200,1,0.98"), std::string::npos) << line;
  EXPECT_TRUE(std::filesystem::exists(run("o") + "/tasks.html"));

  // Depths of a key in the text.
  const ProcessResult deep =
      run_process(evaluate("--task passkey --sizes 400 --depths 3 --count 2 --patterns causal --chunk 64"));
  ASSERT_EQ(deep.exit_code, 0) << deep.output;
  for (const char* depth : {"causal, depth 0.00", "depth 0.50", "depth 1.00"})
    EXPECT_EQ(occurrences(deep.output, depth), 1) << deep.output;
  // Shares that are ignored.
  const ProcessResult flips = run_process(
      evaluate("--task flip_flop --sizes 4 --ignore 0.8,0.1 --count 2 --patterns causal --output " + run("f")));
  ASSERT_EQ(flips.exit_code, 0) << flips.output;
  for (const char* share : {"causal, 80 % ignored", "10 % ignored"})
    EXPECT_EQ(occurrences(flips.output, share), 1) << flips.output;
  std::ifstream ignored(run("f") + "/tasks.json");
  EXPECT_EQ(nlohmann::json::parse(ignored)["series"][0]["cells"][1]["ignore"], 0.1);
}

TEST_F(TaskCommands, RefuseWhatHasNoEffect) {
  expect_refused(prepare("--task parity --sizes 4 --input " + data()), "--input has no effect with --task");
  expect_refused(prepare("--sizes 4 --input " + data()), "--sizes has no effect without --task");
  expect_refused(prepare("--task parrity --sizes 4"), "parrity");
  expect_refused(prepare("--task parity"), "sizes are missing; give --sizes, in bits");
  expect_refused(prepare("--task parity --sizes 4 --depth 0.5"),
                 "depth has an effect only with task = passkey or needle");
  expect_refused(evaluate("--task passkey --sizes 200"), "task passkey of 200 bytes is impossible; the least is 300");
  expect_refused(prepare("--task passkey --sizes 400 --depth -0.5"), "depth = -0.5 is no share of the filler");
  expect_refused(evaluate("--task passkey --sizes 400 --ignore 0.5"),
                 "ignore has an effect only with task = flip_flop");
  expect_refused(evaluate("--task needle --sizes 400"), "haystack is missing; give --haystack");
  expect_refused(evaluate("--task needle --sizes 400 --haystack /nowhere"), "--haystack /nowhere cannot be read");
  expect_refused(evaluate("--task passkey --sizes 400 --haystack /nowhere"),
                 "haystack has an effect only with task = needle");
  expect_refused(evaluate("--task passkey --sizes 400 --lengths 32"), "--lengths has no effect with --task");
}

}  // namespace
}  // namespace lexring
