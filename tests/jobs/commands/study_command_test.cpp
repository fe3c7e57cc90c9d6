// `lexring study` as a person uses it: a study of two methods, another use of the first and a training that begins with
// its weights, with two seeds; killed and continued; bad study files.
#include <chrono>
#include <csignal>
#include <regex>
#include <thread>

#include <fmt/format.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

using nlohmann::json;

const char* const small = R"(
[study]
title = Small
seeds = 1,2
[model]
layers = 1
width = 32
heads = 2
[train]
length = 32
batch = 4
steps = 40
[optimizer]
lr = 1e-2
warmup = 5
[checkpoint]
every = 10
[evaluate]
lengths = 16,32,64
patterns = causal,blockwise
tokens = 4096
resolution = 0
[method.rope]
label = RoPE
position.kind = rope
[method.learned]
position.kind = learned
[method.yarn]
checkpoint_of = rope
position.scaling = yarn
evaluate.tokens = 4096
[method.longer]
init = rope
train.length = 64
train.steps = 10
position.scaling = linear
position.scaling_factor = 2
)";

class StudyCommand : public JobTest {
 protected:
  static std::string file(const std::string& text) {
    const std::string path = run("study.ini");
    std::ofstream(path) << text;
    return path;
  }
  static std::string study(const std::string& text, const std::string& keys) {
    return fmt::format("{} study {} --data.train {} --data.valid {} --output {} {}", binary(), file(text), data(),
                       data(), run("out"), keys);
  }
  static std::string content(const std::string& path) {
    std::ifstream stream(path);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  static std::string out(const std::string& name) { return run("out") + "/" + name; }
  static std::string log(const std::string& name) { return content(out("logs/" + name + ".log")); }
  static json results(const std::string& name) {
    return json::parse(content(out("evaluations/" + name + "/results.json")));
  }
  static std::size_t steps_of(const std::string& name) {
    return static_cast<std::size_t>(occurrences(content(out("runs/" + name + "/metrics.jsonl")), "\"step\":"));
  }
};

TEST_F(StudyCommand, TrainsAndEvaluatesEveryMethodWithEverySeed) {
  const auto made = run_process(study(small, "--parallel 2"));
  ASSERT_EQ(made.exit_code, 0) << made.output;
  for (const char* seed : {"-seed1", "-seed2"}) {
    EXPECT_EQ(steps_of(std::string("rope") + seed), 40U);
    EXPECT_EQ(steps_of(std::string("learned") + seed), 40U);
    EXPECT_EQ(steps_of(std::string("longer") + seed), 10U);
    EXPECT_FALSE(std::filesystem::exists(out(std::string("runs/yarn") + seed)));
    EXPECT_NE(log(std::string("train-longer") + seed).find("a new run with the weights of"), std::string::npos);
  }
  EXPECT_NE(results("rope-seed1")["series"][0]["cells"][0]["loss"],
            results("rope-seed2")["series"][0]["cells"][0]["loss"]);
  // Up to the training length YaRN's factor is 1, beyond it is another model.
  const json yarn = results("yarn-seed1")["series"][0]["cells"], rope = results("rope-seed1")["series"][0]["cells"];
  EXPECT_EQ(yarn[1]["loss"], rope[1]["loss"]);
  EXPECT_NE(yarn[2]["loss"], rope[2]["loss"]);

  const double mean =
      (rope[1]["loss"].get<double>() + results("rope-seed2")["series"][0]["cells"][1]["loss"].get<double>()) / 2;
  EXPECT_NE(made.output.find(fmt::format("{:.4f} ± ", mean)), std::string::npos) << made.output;
  EXPECT_NE(made.output.find("n/a: learned, causal at 64: beyond max_length"), std::string::npos) << made.output;
  EXPECT_NE(content(out("table.md")).find("| RoPE |"), std::string::npos);
  EXPECT_NE(content(out("table.tex")).find("\\bottomrule"), std::string::npos);
  EXPECT_EQ(occurrences(content(out("table.csv")), "\n"), 1 + 4 * 2 * 3);
  const std::string report = content(out("report.html"));
  EXPECT_NE(report.find("RoFormer"), std::string::npos);
  EXPECT_EQ(occurrences(report, "class=\"f-band\""), 2 * 2 * 4) << "patterns x widths x methods";

  // Nothing is done twice.
  const auto written = std::filesystem::last_write_time(out("evaluations/yarn-seed2/results.json"));
  const auto again = run_process(study(small, "--parallel 2"));
  ASSERT_EQ(again.exit_code, 0) << again.output;
  EXPECT_NE(again.output.find("0 of 14 jobs to do"), std::string::npos) << again.output;
  EXPECT_EQ(written, std::filesystem::last_write_time(out("evaluations/yarn-seed2/results.json")));

  // Tables of what is there need no data.
  std::filesystem::remove(out("table.md"));
  const auto tables = run_process(fmt::format("{} study {} --tables --output {}", binary(), file(small), run("out")));
  ASSERT_EQ(tables.exit_code, 0) << tables.output;
  EXPECT_NE(content(out("table.md")).find(fmt::format("{:.4f} ± ", mean)), std::string::npos) << tables.output;

  // Another evaluation is made; another training is refused.
  const auto fewer = run_process(study(small, "--evaluate.lengths 16,32"));
  ASSERT_EQ(fewer.exit_code, 0) << fewer.output;
  EXPECT_NE(fewer.output.find("8 of 14 jobs to do"), std::string::npos) << fewer.output;
  EXPECT_EQ(results("yarn-seed2")["lengths"], json({16, 32}));
  const auto other = run_process(study(small, "--train.steps 50"));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.output.find("was begun with another configuration (train.steps 40 -> 50)"), std::string::npos)
      << other.output;
}

TEST_F(StudyCommand, ScoresMethodsOnATask) {
  const std::string prepared = run("first.h5");
  const auto made_data = run_process(binary() + " prepare --task first --sizes 2,6 --count 500 --output " + prepared);
  ASSERT_EQ(made_data.exit_code, 0) << made_data.output;
  std::smatch length;
  ASSERT_TRUE(std::regex_search(made_data.output, length, std::regex("--train.length ([0-9]+)"))) << made_data.output;
  const std::string text = fmt::format(
      "[study]\nseeds = 1,2\nbaseline = rope\n[model]\nlayers = 1\nwidth = 32\nheads = 2\n[train]\nlength = {}\n"
      "batch = 16\nsteps = 40\n[data]\ntrain = {}\n[optimizer]\nlr = 1e-2\nwarmup = 5\n"
      "[evaluate]\ntask = first\nsizes = 4,9\ncount = 40\n[method.rope]\nposition.kind = rope\n"
      "[method.logn]\nposition.kind = none\nattention.logn_base = 8\n",
      length[1].str(), prepared);
  const std::string command = fmt::format("{} study {} --output {}", binary(), file(text), run("out"));
  const auto made = run_process(command);
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_NE(made.output.find("right answers in %, mean of 2 seeds"), std::string::npos) << made.output;
  double each[2] = {}, against[2] = {};
  for (const int seed : {1, 2}) {
    const auto cell = [&](const char* method) {
      return json::parse(
          content(out(fmt::format("evaluations/{}-seed{}/tasks.json", method, seed))))["series"][0]["cells"][1];
    };
    EXPECT_EQ(cell("rope")["text_right"].size(), 40U);
    each[seed - 1] = 100 * cell("logn")["share"].get<double>();
    against[seed - 1] = each[seed - 1] - 100 * cell("rope")["share"].get<double>();
  }
  const std::string table = content(out("table.csv"));
  EXPECT_NE(table.find("length,seeds,right,right_error,"), std::string::npos);
  std::smatch row;
  const std::regex pattern("logn,logn,causal,9,2,([^,]*),[^,]*,[^,]*,[^,]*,([^,]*),([^,]*),");
  ASSERT_TRUE(std::regex_search(table, row, pattern)) << table;
  EXPECT_NEAR(std::stod(row[1]), (each[0] + each[1]) / 2, 1e-9);
  EXPECT_NEAR(std::stod(row[2]), (against[0] + against[1]) / 2, 1e-9);
  EXPECT_GE(std::stod(row[3]), std::abs(against[0] - against[1]) / 2 - 1e-9) << "seeds and texts";
  const std::string report = content(out("report.html"));
  EXPECT_NE(report.find("Right answers by size, causal"), std::string::npos);
  EXPECT_NE(report.find("40 texts of each size"), std::string::npos);

  const auto again = run_process(command);
  EXPECT_NE(again.output.find("0 of 8 jobs to do"), std::string::npos) << again.output;
  const auto sizes = run_process(command + " --evaluate.sizes 3");
  EXPECT_NE(sizes.output.find("4 of 8 jobs to do"), std::string::npos) << sizes.output;
}

TEST_F(StudyCommand, GoesOnWhereItWasKilled) {
  const std::string keys = "--train.steps 4000 --checkpoint.every 100 --optimizer.lr 1e-3 --study.seeds 1";
  const std::string end = fmt::format(
      " & p=$!; for i in $(seq 3000); do grep -q '\"step\":150,' "
      "{}/runs/rope-seed1/metrics.jsonl 2>/dev/null && break; sleep 0.02; done; ",
      run("out"));
  // By a signal: the training writes a checkpoint.
  const auto stopped = run_process("exec 2>&1; " + study(small, keys) + end + "kill -TERM $p; wait $p; echo code $?");
  EXPECT_NE(stopped.output.find("the same command goes on"), std::string::npos) << stopped.output;
  EXPECT_NE(stopped.output.find("code 75"), std::string::npos) << stopped.output;
  const std::size_t before = steps_of("rope-seed1");
  ASSERT_GE(before, 150U);
  ASSERT_LT(before, 4000U) << "too fast to be stopped";
  // All at once, without a warning: its checkpoint is older.
  const auto killed = run_process("exec 2>&1; set -m; " + study(small, keys) +
                                  " & p=$!; sleep 1; kill -KILL -- -$p; wait $p; echo killed");
  EXPECT_NE(killed.output.find("killed"), std::string::npos) << killed.output;
  const auto whole = run_process(study(small, keys + " --parallel 2"));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_EQ(steps_of("rope-seed1"), 4000U);
  EXPECT_NE(log("train-rope-seed1").find("resumed from"), std::string::npos) << log("train-rope-seed1");
  EXPECT_EQ(occurrences(log("train-rope-seed1"), "from the start"), 1) << log("train-rope-seed1");
}

TEST_F(StudyCommand, EvaluationsGoOnWhereTheyWereStopped) {
  const std::string keys = "--study.seeds 1 --evaluate.tokens 16384 --evaluate.chunk 64";
  const std::string parts = out("evaluations/rope-seed1/evaluation.parts");
  const auto stopped = run_process(
      fmt::format("exec 2>&1; {} & p=$!; until [ $(cat {} 2>/dev/null | wc -l) -ge 20 ] || ! kill -0 $p; do sleep "
                  "0.02; done; kill -TERM $p; wait $p; echo code $?",
                  study(small, keys), parts));
  EXPECT_NE(stopped.output.find("code 75"), std::string::npos) << stopped.output;
  EXPECT_EQ(stopped.output.find("failed"), std::string::npos) << stopped.output;
  EXPECT_NE(log("evaluate-rope-seed1").find("the same command goes on"), std::string::npos)
      << log("evaluate-rope-seed1");
  ASSERT_TRUE(std::filesystem::exists(parts)) << "too fast to be stopped";
  const auto whole = run_process(study(small, keys));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_NE(log("evaluate-rope-seed1").find("were there already"), std::string::npos) << log("evaluate-rope-seed1");
  EXPECT_FALSE(std::filesystem::exists(parts));
}

TEST_F(StudyCommand, WhatFailsDoesNotEndTheRest) {
  // A run's directory that is a file.
  std::filesystem::create_directories(out("runs"));
  std::ofstream(out("runs/learned-seed1")) << "in the way";
  const auto made = run_process(study(small, "--study.seeds 1"));
  EXPECT_EQ(made.exit_code, 1);
  EXPECT_NE(made.output.find("failed: train-learned-seed1: exit code"), std::string::npos) << made.output;
  EXPECT_NE(made.output.find("failed: evaluate-learned-seed1: train-learned-seed1 failed"), std::string::npos)
      << made.output;
  EXPECT_NE(made.output.find("2 of 7 jobs failed; the same command tries again"), std::string::npos) << made.output;
  EXPECT_NE(content(out("table.md")).find("| yarn |"), std::string::npos);
}

TEST_F(StudyCommand, StudiesInConfigsCanBeRead) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LEXRING_SOURCE "/configs/studies")) {
    const bool task = content(entry.path()).find("\ntask = ") != std::string::npos;
    const auto listed =
        run_process(fmt::format("{} study {} --list --output {} --data.train {} {}", binary(), entry.path().string(),
                                run("out"), data(), task ? "" : "--data.valid " + data() + " --evaluate.tokens 4096"));
    EXPECT_EQ(listed.exit_code, 0) << entry.path() << "\n" << listed.output;
    count += occurrences(listed.output, "to do  lexring train");
    std::ifstream stream(LEXRING_SOURCE "/configs/README.md");
    const std::string readme((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    EXPECT_NE(readme.find("studies/" + entry.path().filename().string()), std::string::npos);
  }
  EXPECT_GE(count, 15 + 6 + 18);
}

TEST_F(StudyCommand, BadStudyFilesGiveOneMessage) {
  const auto says = [&](const std::string& text, const std::string& message, const std::string& keys = "") {
    const auto made = run_process(study(text, keys));
    EXPECT_EQ(made.exit_code, 2) << made.output;
    EXPECT_NE(made.output.find(message), std::string::npos) << made.output;
    EXPECT_EQ(occurrences(made.output, "\n"), 1) << made.output;
    EXPECT_FALSE(std::filesystem::exists(run("out")));
  };
  const std::string rope = "[method.a]\nposition.kind = rope\n";
  says("", "has no method");
  says("[method.a]\nposition.kind = rop\n", "study.ini:2: position.kind = 'rop' is not known");
  says("[method.a]\nposition.knd = rope\n", "study.ini:2: there is no key 'position.knd'; the nearest is");
  says("[method.a]\nposition.kind = alibi\nposition.gamma = 0.1\n", "method a: position.gamma has an effect only with");
  says("[method.a]\ncheckpoint_of = b\n", "method.a.checkpoint_of = b, but there is no such method");
  says("[method.a]\ninit = a\n", "begins with its own weights");
  says(rope + "evaluate.task = parity\n", "study.ini:3: a task is the whole study's: give it in [evaluate]");
  says("[evaluate]\ntask = parrot\nsizes = 4\n" + rope, "method a: task = 'parrot' is not known");
  says("[evaluate]\ntask = parity\nsizes = 4\ntokens = 4096\n" + rope, "tokens has no effect with --task");
  says(rope + "[method.b]\ncheckpoint_of = c\n[method.c]\ncheckpoint_of = a\n", "is not trained from the start");
  says(rope + "[method.b]\ncheckpoint_of = a\nposition.scaling = linear,yarn\n", "several rescalings");
  says(rope + "[method.b]\ncheckpoint_of = a\nposition.theta = 3\n", "method b: there is no key 'position.theta'");
  says("[method.a b]\nposition.kind = rope\n", "is no section of a method");
  says(rope + "[train]\nseed = 3\n", "study.ini:4: train.seed has no place in a study: give study.seeds");
  says("[study]\nbaseline = c\n" + rope, "study.baseline = c, but there is no such method; choose one of a");
  says("[study]\nseed = 1\n" + rope, "study.ini:2: there is no key 'study.seed'; the nearest is 'study.seeds'");
  says("[evaluate]\nlenghts = 3\n" + rope, "method a: there is no key 'lenghts'; the nearest is 'lengths'");
  says(rope, "there is no key 'layers'; the nearest is 'model.layers'", "--layers 3");
  says(rope, "--train.steps needs a value", "--train.steps");
  says(rope, "--sbatch is for jobs of Slurm; give --submit too", "--sbatch=--exclusive");
  says(rope, "with --submit Slurm decides", "--submit --parallel 2");
  says(rope, "there is no jobs/slurm/study.sbatch here; submit from the root of the repository", "--submit");
  const auto no_file = run_process(binary() + " study --output x");
  EXPECT_NE(no_file.output.find("the study file is missing"), std::string::npos) << no_file.output;
}

}  // namespace
}  // namespace lexring
