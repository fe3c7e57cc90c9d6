#include <cmath>
#include <regex>

#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Training : public JobTest {
 protected:
  static void expect_done(const std::string& command) {
    const ProcessResult result = run_process(command);
    ASSERT_EQ(result.exit_code, 0) << command << "\n" << result.output;
  }
  static void expect_close(const std::string& a, const std::string& b, double tolerance) {
    const auto x = metrics(a), y = metrics(b);
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_NEAR(x[i]["loss"].get<double>(), y[i]["loss"].get<double>(), tolerance * x[i]["loss"].get<double>())
          << "step " << i + 1;
    }
  }
};

TEST_F(Training, Learns) {
  expect_done(train("run", "--train.steps 60"));
  const auto lines = metrics("run");
  ASSERT_EQ(lines.size(), 60U);
  EXPECT_NEAR(lines.front()["loss"].get<double>(), std::log(257.0), 0.3) << "a model that knows nothing";
  EXPECT_LT(lines.back()["loss"].get<double>(), 3.0);
  EXPECT_TRUE(std::filesystem::exists(run("run") + "/config.ini"));
  EXPECT_TRUE(std::filesystem::exists(run("run") + "/step-00000060/manifest.json"));
}

TEST_F(Training, TwoRunsAreBitIdentical) {
  for (const std::string precision : {"fp32", "bf16"}) {
    expect_done(train("a" + precision, "--train.steps 6 --train.precision " + precision));
    expect_done(train("b" + precision, "--train.steps 6 --train.precision " + precision));
    EXPECT_EQ(trajectory("a" + precision), trajectory("b" + precision));
    EXPECT_EQ(metrics("a" + precision).size(), 6U);
  }
}

TEST_F(Training, Tf32IsFp32WhereThereIsNone) {
  expect_done(train("fp32", "--device cpu --train.steps 3 --train.precision fp32"));
  expect_done(train("tf32", "--device cpu --train.steps 3 --train.precision tf32"));
  EXPECT_EQ(trajectory("fp32"), trajectory("tf32"));
}

TEST_F(Training, AResumedRunIsBitIdentical) {
  const std::string constant = "--optimizer.schedule constant ";
  for (const int ranks : {1, 2}) {
    const std::string start = ranks == 1 ? "" : mpirun(ranks), n = std::to_string(ranks);
    expect_done(start + train("whole" + n, constant + "--train.steps 10"));
    expect_done(start + train("parts" + n, constant + "--train.steps 5"));
    expect_done(start + train("parts" + n, constant + "--train.steps 10"));
    EXPECT_EQ(trajectory("whole" + n), trajectory("parts" + n));
    EXPECT_EQ(metrics("whole" + n).size(), 10U);
  }
  const ProcessResult again = run_process(train("whole1", constant + "--train.steps 10"));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_EQ(occurrences(again.output, "already trained for 10 steps"), 1) << again.output;
}

TEST_F(Training, AKilledRunGoesOnBitIdentically) {
  const std::string keys =
      "--optimizer.schedule constant --checkpoint.every 5 --model.width 64 --train.length 128 --train.batch 8 ";
  expect_done(train("whole", keys + "--train.steps 60"));
  // Killed as soon as 23 steps are on disk, wherever it is then.
  const std::string metrics_file = run("killed") + "/metrics.jsonl";
  const ProcessResult killed = run_process(train("killed", keys + "--train.steps 100000") +
                                           " & pid=$!\n"
                                           "until [ \"$(cat " +
                                           metrics_file +
                                           " 2>/dev/null | wc -l)\" -ge 23 ]; do sleep 0.01; done\n"
                                           "kill -9 $pid; wait $pid");
  EXPECT_EQ(killed.exit_code, 137) << killed.output;
  ASSERT_LT(metrics("killed").size(), 60U) << "killed too late to resume before step 60";
  const ProcessResult resumed = run_process(train("killed", keys + "--train.steps 60"));
  EXPECT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_EQ(occurrences(resumed.output, "resumed from"), 1) << resumed.output;
  EXPECT_EQ(trajectory("whole"), trajectory("killed"));
}

TEST_F(Training, ASignalSavesAtTheStepBoundary) {
  const std::string keys = "--optimizer.schedule constant --model.width 64 --train.length 128 --train.batch 8 ";
  const std::string metrics_file = run("stopped") + "/metrics.jsonl";
  const ProcessResult stopped = run_process(train("stopped", keys + "--train.steps 100000") +
                                            " & pid=$!\n"
                                            "until [ \"$(cat " +
                                            metrics_file +
                                            " 2>/dev/null | wc -l)\" -ge 3 ]; do sleep 0.01; done\n"
                                            "kill -TERM $pid; wait $pid");
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  const auto done = metrics("stopped").size();
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08zu", done);
  EXPECT_TRUE(std::filesystem::exists(run("stopped") + "/" + name + "/manifest.json")) << name << "\n"
                                                                                       << stopped.output;
}

/// mpirun has the ranks' exit code, and adds nothing to what we say.
TEST_F(Training, AStopOfTwoRanksIsOneMessageAndOneExitCode) {
  const std::string keys = "--optimizer.schedule constant --train.steps ";
  const ProcessResult stopped = run_process(
      mpirun(2) + train("stopped", keys + "100000") + " & pid=$!\n" + "until [ \"$(cat " + run("stopped") +
      "/metrics.jsonl 2>/dev/null | wc -l)\" -ge 3 ]; do sleep 0.01; done\n" + "kill -USR1 $pid; wait $pid");
  EXPECT_EQ(stopped.exit_code, 75) << stopped.output;
  EXPECT_EQ(occurrences(stopped.output, "stopped by a signal after step"), 1) << stopped.output;
  EXPECT_EQ(occurrences(stopped.output, "exit code"), 0) << stopped.output;
  EXPECT_EQ(occurrences(stopped.output, "-----"), 0) << stopped.output;
  const ProcessResult finished =
      run_process(mpirun(2) + train("stopped", keys + std::to_string(metrics("stopped").size() + 2)));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
}

TEST_F(Training, MicroBatchesAddUpToTheBatch) {
  expect_done(train("one", "--train.steps 5"));
  expect_done(train("four", "--train.steps 5 --train.micro_batch 4"));  // 4 + 2
  expect_close("one", "four", 1e-5);
}

TEST_F(Training, AnyNumberOfReplicasHasTheSameLosses) {
  expect_done(train("dp1", "--train.steps 8"));
  for (const int ranks : {2, 3}) {
    expect_done(mpirun(ranks) + train("dp" + std::to_string(ranks), "--train.steps 8"));
    expect_close("dp1", "dp" + std::to_string(ranks), 1e-5);
  }
}

TEST_F(Training, AnyMeshHasTheSameLosses) {
  expect_done(train("alone", "--train.steps 6"));
  const std::vector<std::pair<int, std::string>> meshes = {
      {2, "--mesh.cp 2"}, {4, "--mesh.cp 2 --mesh.tp 2"}, {4, "--mesh.dp 2 --mesh.cp 2 --optimizer.shard state"}};
  for (std::size_t i = 0; i < meshes.size(); ++i) {
    const auto& [ranks, keys] = meshes[i];
    const std::string name = "mesh" + std::to_string(i);
    const ProcessResult result = run_process(mpirun(ranks) + train(name, "--train.steps 6 " + keys));
    ASSERT_EQ(result.exit_code, 0) << keys << "\n" << result.output;
    EXPECT_EQ(occurrences(result.output, "zigzag partition, "), 1)
        << "the first lines say how sequences are shared: " << result.output;
    expect_close("alone", name, 1e-5);
  }
}

TEST_F(Training, ACheckpointOfTwoRanksGoesOnWithOneOrThree) {
  const std::string constant = "--optimizer.schedule constant ";
  expect_done(train("whole", constant + "--train.steps 8"));
  expect_done(mpirun(2) + train("parts", constant + "--train.steps 4"));
  expect_done(mpirun(3) + train("parts", constant + "--train.steps 6"));
  expect_done(train("parts", constant + "--train.steps 8"));
  expect_close("whole", "parts", 1e-5);
}

TEST_F(Training, TenStepsThatAreNotFiniteStopEveryRank) {
  const ProcessResult result =
      run_process(mpirun(2) + train("run", "--train.steps 100 --optimizer.lr 1e30 --optimizer.warmup 0"));
  EXPECT_EQ(result.exit_code, 3) << result.output;
  EXPECT_EQ(occurrences(result.output, "10 steps in a row"), 1) << result.output;
  const auto lines = metrics("run");
  ASSERT_GE(lines.size(), 10U);
  EXPECT_LT(lines.size(), 15U);
  EXPECT_EQ(lines.back()["skipped"], true);
  EXPECT_EQ(lines.back()["computed_twice"], "persistent");
}

TEST_F(Training, WeightsThatAreNotFiniteAreNotSaved) {
  const std::string keys = "--optimizer.lr 1e300 --optimizer.warmup 0 --checkpoint.every 1 --train.steps ";
  const ProcessResult result = run_process(mpirun(2) + train("run", keys + "3"));
  EXPECT_EQ(result.exit_code, 3) << result.output;
  EXPECT_EQ(occurrences(result.output,
                        "weights are not finite after step 1, so they are not saved; there is no checkpoint yet"),
            1)
      << result.output;
  EXPECT_FALSE(std::filesystem::exists(run("run") + "/step-00000001"));
}

TEST_F(Training, MinutesChooseTheStepsAndStandInTheConfiguration) {
  const ProcessResult result = run_process(train("run", "--train.minutes 0.02 --optimizer.warmup 25"));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  std::ifstream stream(run("run") + "/config.ini");
  const std::string config((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto steps = metrics("run").size();
  EXPECT_GT(steps, 20U);
  EXPECT_EQ(occurrences(config, "\nsteps = " + std::to_string(steps) + "\n"), 1) << config;
  EXPECT_EQ(occurrences(config, "\nminutes = 0\n"), 1) << config;
  const ProcessResult again = run_process(train("run", "--train.minutes 0.02 --optimizer.warmup 25"));
  EXPECT_EQ(occurrences(again.output, "already trained for"), 1) << again.output;
}

/// Documents of one letter in windows of one token: behind the end of a document nothing is to be predicted.
TEST_F(Training, AStepWithoutTargetsHasNoLoss) {
  const std::string text = (shared() / "letters.jsonl").string(), letters = (shared() / "letters.h5").string();
  std::ofstream stream(text);
  for (int i = 0; i < 40; ++i) stream << "{\"text\": \"" << static_cast<char>('a' + i % 20) << "\"}\n";
  stream.close();
  ASSERT_EQ(run_process(binary() + " prepare --input " + text + " --output " + letters).exit_code, 0);
  const ProcessResult result =
      run_process(train("run", "--train.length 1 --train.batch 1 --train.steps 16 --data.train " + letters));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  int without = 0;
  for (const auto& line : metrics("run")) {
    EXPECT_EQ(line["skipped"], false);
    without += line["loss"].is_null() ? 1 : 0;
    EXPECT_TRUE(line["loss"].is_null() || line["loss"].get<double>() > 0) << line;
  }
  EXPECT_GE(without, 1);
  EXPECT_LT(without, 16);
}

TEST_F(Training, StepsOnTheCommandLineReplaceTheMinutesOfAFile) {
  const std::string file = (shared() / "minutes.ini").string();
  std::ofstream(file) << "[train]\nminutes = 5\n";
  expect_done(train("run", "--config " + file + " --train.steps 4"));
  EXPECT_EQ(metrics("run").size(), 4U);
  // What a run wrote down is a configuration, also where it says less than all keys.
  expect_done(binary() + " train --config " + run("run") + "/config.ini --position.kind rope --checkpoint.directory " +
              run("again"));
  EXPECT_EQ(metrics("again").size(), 4U);
}

TEST_F(Training, GeneratesFromACheckpoint) {
  expect_done(train("run", "--train.steps 60"));
  const std::string command =
      binary() + " generate --device cpu --checkpoint " + run("run") + " --prompt 'the ring ' --tokens 40 --seed 3";
  const ProcessResult first = run_process(command), second = run_process(command);
  EXPECT_EQ(first.exit_code, 0) << first.output;
  EXPECT_EQ(first.output.rfind("the ring ", 0), 0U) << first.output;
  EXPECT_EQ(first.output, second.output) << "a seed's draws repeat";
  // Without a temperature the cache must give what a longer prompt gives.
  const std::string greedy = binary() + " generate --device cpu --checkpoint " + run("run") + " --temperature 0 ";
  const std::string whole = run_process(greedy + "--prompt 'the ring ' --tokens 12").output;
  const std::string head = run_process(greedy + "--prompt 'the ring ' --tokens 6").output;
  const std::string rest = run_process(greedy + "--tokens 6 --prompt '" + head.substr(0, head.size() - 1) + "'").output;
  EXPECT_EQ(whole, rest);
  EXPECT_EQ(run_process(mpirun(2) + greedy + "--prompt 'the ring ' --tokens 12 --mesh.tp 2").output, whole);
}

/// A corpus smaller than the run: 40,000 bytes are 39 windows of 1,024 tokens.
TEST_F(Training, SaysHowOftenTheDataRepeats) {
  const ProcessResult result = run_process(train("run", "--train.length 1024 --train.batch 13 --train.steps 7"));
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto lines = metrics("run");
  ASSERT_EQ(lines.size(), 7U);
  EXPECT_NEAR(lines[2]["epochs"].get<double>(), 1, 1e-12);
  EXPECT_NEAR(lines[6]["epochs"].get<double>(), 7 * 13 / 39.0, 1e-12);
  EXPECT_GE(occurrences(result.output, "epoch 2.33"), 1) << result.output;
}

/// What there is one of is no plural, in any command.
TEST_F(Training, OneOfAKindIsSingular) {
  std::ofstream(run("a.txt")) << "a";
  const std::string keys = "--train.steps 1 --train.batch 1 --model.layers 1 --model.heads 1";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {binary() + " prepare --input " + run("a.txt") + " --output " + run("a.h5"),
       "1 document, 2 tokens, from 1 byte of text in 1 file,"},
      {binary() + " inspect " + run("a.h5"), "median 1 byte, longest 1 byte"},
      {train("run", keys), "training 1/1 step  loss"},
      {train("run", keys), "already trained for 1 step; ask"},
      {binary() + " inspect " + run("run"), "step 1, 1 sample, 0 skipped steps,"},
      {binary() + " evaluate --resolution 0 --tokens 4096 --lengths 32 --data " + data() + " --output " +
           run("results") + " --checkpoint " + run("run"),
       "trained at 32 tokens"},
      {"grep -o '1 layer, width 32, 1 head,' " + run("results") + "/report.html", "1 layer"},
      {"grep -o '1 step of 1 sequence of 32 tokens' " + run("results") + "/report.html", "1 step"}};
  for (const auto& [command, words] : cases) {
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    EXPECT_GE(occurrences(result.output, words), 1) << command << "\n" << result.output;
  }
  const ProcessResult refused = run_process(binary() + " generate --checkpoint x --prompt a --mesh.tp 2");
  EXPECT_GE(occurrences(
                refused.output,
                "mesh.tp = 2 was given to 1 process; use --mesh.tp 1 where it divides the heads, or start 2 processes"),
            1)
      << refused.output;
}

/// What is printed and written has its unit beside it, or where a reader finds it.
TEST_F(Training, NumbersHaveUnits) {
  const ProcessResult trained =
      run_process(train("run", "--train.steps 2 --train.valid_every 1 --data.valid " + data()));
  ASSERT_EQ(trained.exit_code, 0) << trained.output;
  const std::regex progress(
      "training 2/2 steps  loss [0-9.]+  epoch [0-9.]+  [0-9.]+[kM]? tokens/s  validation loss [0-9.]+  in [0-9]+ s\n");
  EXPECT_TRUE(std::regex_search(trained.output, progress)) << trained.output;
  std::ifstream stream(LEXRING_SOURCE "/jobs/README.md");
  const std::string readme((std::istreambuf_iterator<char>(stream)), {});
  const nlohmann::json last = metrics("run").back();
  for (const auto& [field, value] : last.items()) {
    const std::regex row("\\| `" + field + "` \\| [^|]+ \\| [^|]+ \\|\n");
    EXPECT_TRUE(std::regex_search(readme, row)) << field;
  }
  const std::string bench =
      binary() + " bench --device cpu --model.layers 1 --train.length 64 --train.batch 2 --steps 1 --ceiling 1";
  const std::string help = run_process(bench + " --help").output;
  const auto line = nlohmann::json::parse(run_process(bench + " 2>/dev/null").output);
  for (const auto& [field, value] : line.items()) {
    const std::regex row("\n  ([a-z_]+, )*" + field + "(, [a-z_]+)*  +[^ ]");
    EXPECT_TRUE(std::regex_search(help, row)) << field;
  }
}

TEST_F(Training, BenchPrintsOneLineOfJson) {
  const ProcessResult result = run_process(
      binary() + " bench --device cpu --model.layers 1 --train.length 64 --train.batch 2 --steps 2 2>/dev/null");
  ASSERT_EQ(result.exit_code, 0) << result.output;
  const auto line = nlohmann::json::parse(result.output);
  EXPECT_EQ(occurrences(line["kernels"].get<std::string>(), "cpu ("), 1);
  for (const char* key : {"tokens_per_second", "gflops", "peak_mib", "start_mib", "seconds_per_step"})
    EXPECT_GT(line[key].get<double>(), 0) << key;
  const ProcessResult profile = run_process(
      binary() + " bench --device cpu --model.layers 1 --train.length 64 --train.batch 2 --steps 2 --profile");
  for (const char* part : {"matmul", "attention", "norm", "loss", "optimizer"})
    EXPECT_GE(occurrences(profile.output, part), 1) << profile.output;
}

/// What a step sends is what the formulas say, to the byte, on every axis.
TEST_F(Training, BenchCountsTheBytesOfTheFormulas) {
  const std::string bench =
      " bench --model.layers 2 --model.width 32 --model.heads 4 --train.length 64 --train.batch 4 --steps 1 ";
  const std::vector<std::pair<int, std::string>> cases = {
      {2, "--mesh.cp 2"},
      {3, "--mesh.cp 3 --train.length 48 --sequence.partition contiguous --train.recompute layer"},
      {3, "--mesh.cp 3 --train.length 48 --sequence.partition striped --model.kv_heads 2 --train.precision bf16"},
      {4, "--mesh.cp 4 --mesh.ulysses 2 --model.kv_heads 1 --train.recompute layer"},
      {2, "--mesh.tp 2 --train.recompute layer --model.sub_norm true"},
      {2, "--mesh.tp 2 --train.recompute ffn"},
      {2, "--mesh.tp 2 --train.recompute layer --model.parallel true --model.head_width 12 --model.sub_norm true"},
      {2, "--mesh.tp 2 --train.recompute attention --model.parallel true --model.qk_norm true"},
      {3, "--mesh.cp 3 --train.length 48 --model.head_width 20"},
      {2,
       "--mesh.tp 2 --train.recompute layer --adapter.rank 3 --adapter.targets "
       "attention.query,attention.value,attention.output,ffn.up,ffn.down"},
      {2, "--mesh.tp 2 --train.recompute layer --model.parallel true --adapter.rank 2"},
      {2, "--mesh.tp 2 --train.recompute none --train.frozen embedding,layers.0"},
      {4, "--mesh.cp 4 --attention.pattern blockwise --attention.block 8 --sequence.exchange halo"},
      {4, "--mesh.cp 4 --attention.pattern chunked --attention.block 8 --sequence.exchange halo"},
      {4, "--mesh.cp 4 --attention.pattern window --attention.window 7"},
      {3, "--mesh.cp 3 --train.length 48 --attention.normalizer landmark --attention.landmark_every 7"},
      {4, "--mesh.cp 2 --mesh.tp 2 --train.micro_batch 1 --train.recompute attention"},
      {2, "--optimizer.shard state --train.precision bf16"},
      {2, "--optimizer.shard gradients --train.precision bf16 --train.micro_batch 1"},
  };
  for (const auto& [ranks, keys] : cases) {
    const ProcessResult result = run_process(mpirun(ranks) + binary() + bench + keys + " 2>/dev/null");
    ASSERT_EQ(result.exit_code, 0) << keys << result.output;
    const auto line = nlohmann::json::parse(result.output);
    int compared = 0;
    for (const auto& [name, sent] : line["communication"].items()) {
      if (name == "other") continue;
      EXPECT_EQ(sent["bytes"], sent["formula"]) << keys << ", " << name;
      ++compared;
    }
    const bool travels = keys.find("cp") != std::string::npos && keys.find("chunked") == std::string::npos;
    EXPECT_GE(compared, travels ? 2 : 1) << keys << result.output;
    EXPECT_GT(line["seconds_communicating"], 0);
    EXPECT_NEAR(line["loss"].get<double>(), 5.55, 0.2) << keys;
  }
}

/// What rank 0 holds is what the formula says, nearly.
TEST_F(Training, BenchHoldsTheMemoryOfTheFormula) {
  const std::string bench =
      " bench --device cpu --model.layers 4 --model.width 128 --model.heads 4 --train.length 1024 "
      "--train.batch 2 --steps 1 --warmup 0 ";
  const std::vector<std::tuple<int, std::string, double>> cases = {
      {1, "--train.precision fp32 --train.recompute none", 0.02},
      {1, "--train.precision fp32 --train.recompute attention", 0.02},
      {1, "--train.precision fp32 --train.recompute ffn --model.sub_norm true", 0.02},
      {1, "--train.precision fp32 --train.recompute layer --train.micro_batch 1", 0.02},
      {1, "--train.precision fp32 --train.recompute layer --model.ffn swiglu --model.kv_heads 1", 0.02},
      {1, "--train.precision fp32 --train.recompute layer --model.vocab 30000", 0.02},
      {1, "--train.precision fp32 --train.recompute none --model.parallel true --model.head_width 48", 0.02},
      {1, "--train.precision fp32 --train.recompute attention --model.parallel true --model.qk_norm true", 0.02},
      {1, "--train.precision fp32 --train.recompute ffn --model.parallel true", 0.02},
      {1, "--train.precision fp32 --train.recompute layer --model.parallel true --model.ffn swiglu", 0.02},
      {1, "--train.precision fp32 --train.recompute none --model.qk_norm true --model.head_width 16", 0.02},
      {1, "--train.precision bf16 --train.recompute ffn", 0.15},
      {2, "--train.precision fp32 --mesh.cp 2 --train.recompute none", 0.15},
      {4, "--train.precision fp32 --mesh.cp 4 --mesh.ulysses 1 --train.recompute layer", 0.15},
      {2, "--train.precision fp32 --mesh.cp 2 --mesh.ulysses 2 --train.recompute attention", 0.15},
      {2, "--train.precision fp32 --mesh.tp 2 --train.recompute layer --model.sub_norm true", 0.15},
      {4, "--train.precision fp32 --mesh.cp 2 --mesh.tp 2 --train.recompute ffn", 0.15},
  };
  for (const auto& [ranks, keys, tolerance] : cases) {
    const ProcessResult result =
        run_process((ranks > 1 ? mpirun(ranks) : "") + binary() + bench + keys + " 2>/dev/null");
    ASSERT_EQ(result.exit_code, 0) << keys << result.output;
    const auto line = nlohmann::json::parse(result.output);
    const double held = line["step_mib"].get<double>();
    EXPECT_NEAR(line["step_formula_mib"].get<double>(), held, tolerance * held) << keys;
  }
}

/// What auto chose stands in the first lines and in config.ini, is the same on all ranks, and changes no number.
TEST_F(Training, RecomputationIsChosenByMemory) {
  const ProcessResult chosen = run_process(mpirun(2) + train("auto", "--train.steps 3 --train.recompute auto"));
  ASSERT_EQ(chosen.exit_code, 0) << chosen.output;
  EXPECT_EQ(occurrences(chosen.output, "train.recompute = none: a step takes about "), 1) << chosen.output;
  std::ifstream stream(run("auto") + "/config.ini");
  const std::string config((std::istreambuf_iterator<char>(stream)), {});
  EXPECT_EQ(occurrences(config, "\nrecompute = none\n"), 1) << config;
  expect_done(mpirun(2) + train("layer", "--train.steps 3 --train.recompute layer"));
  EXPECT_EQ(trajectory("auto"), trajectory("layer"));
}

}  // namespace
}  // namespace lexring
