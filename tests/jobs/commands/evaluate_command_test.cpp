#include <cmath>

#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class EvaluateCommand : public JobTest {
 protected:
  static std::string evaluate(const std::string& keys, const std::string& output) {
    return binary() + " evaluate --data " + data() + " --output '" + run(output) + "' " + keys;
  }
  static nlohmann::json results(const std::string& output) {
    std::ifstream stream(run(output) + "/results.json");
    return nlohmann::json::parse(stream);
  }
};

TEST_F(EvaluateCommand, WritesTableAndReport) {
  ASSERT_EQ(run_process(train("r", "--train.steps 3")).exit_code, 0);
  const std::string keys =
      "--checkpoint " + run("r") + " --lengths 32,64,256 --patterns causal,blockwise,window,sink_window --tokens 8192";
  const ProcessResult one = run_process(evaluate(keys, "o"));
  ASSERT_EQ(one.exit_code, 0) << one.output;
  EXPECT_GE(occurrences(one.output, "32 (1x)"), 1) << one.output;
  for (const char* name : {"results.json", "results.csv", "report.html", "loss_by_length.svg"}) {
    EXPECT_TRUE(std::filesystem::file_size(run("o") + "/" + name) > 100) << name;
  }
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(run("o"))) files += entry.is_regular_file();
  EXPECT_EQ(files, 4);
  const auto json = results("o");
  EXPECT_EQ(json["series"][3]["cells"][2]["tokens"], 8192);
  EXPECT_EQ(json["models"][0]["base_length"], 32);
  EXPECT_EQ(json["models"][0]["precision"], "fp32");

  // Any mesh says the same.
  for (const std::string mesh :
       {"--mesh.dp 3", "--mesh.cp 2", "--mesh.tp 2 --mesh.cp 2 --sequence.partition striped"}) {
    const int ranks = mesh.find("dp") != std::string::npos ? 3 : mesh.find("tp") != std::string::npos ? 4 : 2;
    const ProcessResult several = run_process(mpirun(ranks) + evaluate(keys + " " + mesh, mesh));
    ASSERT_EQ(several.exit_code, 0) << several.output;
    for (std::size_t p = 0; p < 4; ++p) {
      for (std::size_t c = 0; c < 3; ++c) {
        const double a = json["series"][p]["cells"][c]["loss"], b = results(mesh)["series"][p]["cells"][c]["loss"];
        EXPECT_NEAR(a, b, 1e-5) << mesh;
      }
    }
    for (std::size_t i = 0; i < json["resolution"].size(); ++i) {
      const double a = json["resolution"][i]["value"], b = results(mesh)["resolution"][i]["value"];
      EXPECT_NEAR(a, b, 1e-4) << mesh;
    }
  }
}

TEST_F(EvaluateCommand, DocumentsAreReadAsTheyWereTrained) {
  std::ofstream lines(shared() / "documents.jsonl");
  for (int i = 0; i < 2000; ++i) lines << "{\"text\": \"rank " << i << " passes its keys on\"}\n";
  lines.close();
  const std::string documents = run("d") + ".h5";
  ASSERT_EQ(
      run_process(binary() + " prepare --input " + (shared() / "documents.jsonl").string() + " --output " + documents)
          .exit_code,
      0);
  const auto loss = [&](const std::string& keys, const std::string& output) {
    const std::string rest =
        " --lengths 256 --patterns causal --tokens 8192 --resolution 0 --output " + run(output) + keys;
    const ProcessResult done = run_process(binary() + " evaluate --data " + documents + rest);
    EXPECT_EQ(done.exit_code, 0) << done.output;
    const bool masked = results(output)["documents"] == "mask";
    EXPECT_EQ(occurrences(done.output, masked ? "documents masked from each other" : "documents not masked"), 1)
        << done.output;
    return results(output)["series"][0]["cells"][0]["loss"].get<double>();
  };
  for (const std::string trained : {"mask", "ignore"}) {
    const std::string other = trained == "mask" ? "ignore" : "mask", from = " --checkpoint " + run(trained);
    ASSERT_EQ(run_process(train(trained, "--train.steps 30 --data.documents " + trained + " --data.train " + documents))
                  .exit_code,
              0);
    const double as_trained = loss(from, trained + "_default");
    EXPECT_EQ(results(trained + "_default")["documents"], trained);
    EXPECT_NE(as_trained, loss(from + " --data.documents " + other, trained + "_other"));
    if (trained == "mask") {
      EXPECT_NE(as_trained, loss(from + " --data.end_of_document none", "without_ends"));
    }
  }
}

TEST_F(EvaluateCommand, CheckpointsRescalingsAndSizesStandBesideEachOther) {
  ASSERT_EQ(run_process(train("rope", "--train.steps 20 --position.kind rope")).exit_code, 0);
  ASSERT_EQ(run_process(train("alibi", "--train.steps 20 --position.kind alibi")).exit_code, 0);
  const std::string rest =
      " --lengths 32,128 --tokens 8192 --resolution 32 --patterns causal,blockwise --attention.block 8,16 "
      "--position.scaling none,linear,ntk,yarn";
  // The second is named by its step directory, as tab completion writes it.
  const ProcessResult both = run_process(
      evaluate("--checkpoint " + run("rope") + " --checkpoint " + run("alibi") + "/step-00000020/" + rest, "o"));
  ASSERT_EQ(both.exit_code, 0) << both.output;
  EXPECT_GE(occurrences(both.output, "rope, yarn by length / 32, at least 1; blockwise, block 16"), 1) << both.output;
  const auto json = results("o");
  ASSERT_EQ(json["models"].size(), 2u);
  ASSERT_EQ(json["series"].size(), 4u * 3 + 3);
  const auto loss = [&](std::size_t series, std::size_t cell) {
    return json["series"][series]["cells"][cell]["loss"].get<double>();
  };
  for (std::size_t scaled = 3; scaled < 12;
       scaled += 3) {  // linear, ntk, yarn: at the training length they change nothing, beyond it they do
    EXPECT_EQ(json["series"][scaled]["cells"][1]["scaling_factor"], 4.0);
    EXPECT_NEAR(loss(scaled, 0), loss(0, 0), 1e-6);
    EXPECT_GT(std::abs(loss(scaled, 1) - loss(0, 1)), 1e-5) << scaled;
  }
  EXPECT_NE(loss(1, 1), loss(2, 1));
  EXPECT_EQ(json["series"][14]["block"], 16);
  EXPECT_EQ(json["resolution"].size(), 5u);
  std::ifstream csv(run("o") + "/results.csv");
  const std::string text{std::istreambuf_iterator<char>(csv), {}};
  EXPECT_GE(occurrences(text, run("alibi") + "/step-00000020"), 3);
  EXPECT_GE(occurrences(text, ",rope,yarn,blockwise,16,"), 2) << text;
}

TEST_F(EvaluateCommand, AnEvaluationIsReplacedOnlyWhenAsked) {
  ASSERT_EQ(run_process(train("r", "--train.steps 1")).exit_code, 0);
  const std::string keys = "--checkpoint " + run("r") + " --lengths 32 --tokens 4096 --resolution 0 --patterns ";
  const ProcessResult printed = run_process(binary() + " evaluate --data " + data() + " " + keys + "causal");
  EXPECT_EQ(printed.exit_code, 0) << printed.output;
  EXPECT_GE(occurrences(printed.output, "nothing was written; --output"), 1) << printed.output;
  ASSERT_EQ(run_process(evaluate(keys + "causal", "o")).exit_code, 0);
  const ProcessResult second = run_process(evaluate(keys + "blockwise", "o"));
  EXPECT_EQ(second.exit_code, 2) << second.output;
  EXPECT_GE(occurrences(second.output, "holds an evaluation already"), 1) << second.output;
  EXPECT_EQ(results("o")["series"][0]["pattern"], "causal");
  EXPECT_EQ(run_process(evaluate(keys + "blockwise --overwrite", "o")).exit_code, 0);
  EXPECT_EQ(results("o")["series"][0]["pattern"], "blockwise");
}

TEST_F(EvaluateCommand, LearnedPositionsEndWithTheirTable) {
  ASSERT_EQ(run_process(train("r", "--train.steps 1 --position.kind learned")).exit_code, 0);
  const ProcessResult done = run_process(evaluate("--checkpoint " + run("r") + " --lengths 32,64 --tokens 4096", "o"));
  EXPECT_EQ(done.exit_code, 0) << done.output;
  EXPECT_GE(occurrences(done.output, "beyond max_length = 32"), 1) << done.output;
  EXPECT_EQ(results("o")["series"][0]["cells"][1].count("not_measured"), 1u);
}

TEST_F(EvaluateCommand, BadInputIsRefusedBeforeAnyWork) {
  ASSERT_EQ(run_process(train("r", "--train.steps 1")).exit_code, 0);
  const std::string from = "--checkpoint " + run("r") + " ";
  expect_refused(evaluate(from + "--patterns causal --attention.block 16", "o"), "attention.block has no effect");
  expect_refused(evaluate("", "o"), "checkpoint is missing");
  expect_refused(evaluate(from + "--output /proc/lexring", "o"), "/proc/lexring", 1);
  expect_refused(evaluate(from + "--lengths 1048576", "o"), "longer corpus");
  expect_refused(evaluate(from + "--lengths 0", "o"), "lengths = 0 is impossible; give at least 1");
  expect_refused(evaluate(from + "--patterns blokwise", "o"), "blokwise");
  expect_refused(evaluate(from + "--chunk 0 --lengths 32", "o"), "chunk = 0 is impossible; give at least 1");
  expect_refused(evaluate(from + "--resolution 9000000", "o"), "--resolution");
  expect_refused(evaluate("--checkpoint " + run("nowhere"), "o"), "nowhere", 1);
  EXPECT_FALSE(std::filesystem::exists(run("o")));  // a refusal leaves nothing
}

}  // namespace
}  // namespace lexring
