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
  const std::string keys = "--checkpoint " + run("r") + " --lengths 32,64,256 --patterns causal,blockwise,window,sink_window --tokens 8192";
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
  EXPECT_EQ(json["patterns"][3]["cells"][2]["tokens"], 8192);
  EXPECT_EQ(json["base_length"], 32);

  // Any mesh says the same.
  for (const std::string mesh : {"--mesh.dp 3", "--mesh.cp 2", "--mesh.tp 2 --mesh.cp 2 --sequence.partition striped"}) {
    const int ranks = mesh.find("dp") != std::string::npos ? 3 : mesh.find("tp") != std::string::npos ? 4 : 2;
    const ProcessResult several = run_process(mpirun(ranks) + evaluate(keys + " " + mesh, mesh));
    ASSERT_EQ(several.exit_code, 0) << several.output;
    for (std::size_t p = 0; p < 4; ++p) {
      for (std::size_t c = 0; c < 3; ++c) {
        const double a = json["patterns"][p]["cells"][c]["loss"], b = results(mesh)["patterns"][p]["cells"][c]["loss"];
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
  ASSERT_EQ(run_process(binary() + " prepare --input " + (shared() / "documents.jsonl").string() + " --output " + documents).exit_code, 0);
  const auto loss = [&](const std::string& keys, const std::string& output) {
    const std::string rest = " --lengths 256 --patterns causal --tokens 8192 --resolution 0 --output " + run(output) + keys;
    const ProcessResult done = run_process(binary() + " evaluate --data " + documents + rest);
    EXPECT_EQ(done.exit_code, 0) << done.output;
    const bool masked = results(output)["documents"] == "mask";
    EXPECT_EQ(occurrences(done.output, masked ? "documents masked from each other" : "documents not masked"), 1) << done.output;
    return results(output)["patterns"][0]["cells"][0]["loss"].get<double>();
  };
  for (const std::string trained : {"mask", "ignore"}) {
    const std::string other = trained == "mask" ? "ignore" : "mask", from = " --checkpoint " + run(trained);
    ASSERT_EQ(run_process(train(trained, "--train.steps 30 --data.documents " + trained + " --data.train " + documents)).exit_code, 0);
    const double as_trained = loss(from, trained + "_default");
    EXPECT_EQ(results(trained + "_default")["documents"], trained);
    EXPECT_NE(as_trained, loss(from + " --data.documents " + other, trained + "_other"));
  }
}

TEST_F(EvaluateCommand, LearnedPositionsEndWithTheirTable) {
  ASSERT_EQ(run_process(train("r", "--train.steps 1 --position.kind learned")).exit_code, 0);
  const ProcessResult done = run_process(evaluate("--checkpoint " + run("r") + " --lengths 32,64 --tokens 4096", "o"));
  EXPECT_EQ(done.exit_code, 0) << done.output;
  EXPECT_GE(occurrences(done.output, "beyond max_length = 32"), 1) << done.output;
  EXPECT_EQ(results("o")["patterns"][0]["cells"][1].count("not_measured"), 1u);
}

TEST_F(EvaluateCommand, BadInputIsRefusedBeforeAnyWork) {
  ASSERT_EQ(run_process(train("r", "--train.steps 1")).exit_code, 0);
  const auto expect_refusal = [](const std::string& command, int exit_code, const std::string& message) {
    const ProcessResult result = run_process(command, 60);
    EXPECT_EQ(result.exit_code, exit_code) << command << "\n" << result.output;
    EXPECT_GE(occurrences(result.output, message), 1) << command << "\n" << result.output;
    EXPECT_EQ(occurrences(result.output, "lexring: "), 1) << result.output;
  };
  const std::string from = "--checkpoint " + run("r") + " ";
  expect_refusal(binary() + " evaluate --checkpoint " + run("r") + " --data " + data(), 2, "output is missing");
  expect_refusal(evaluate("", "o"), 2, "checkpoint is missing");
  expect_refusal(evaluate(from + "--output /proc/lexring", "o"), 1, "/proc/lexring");
  expect_refusal(evaluate(from + "--lengths 1048576", "o"), 2, "longer corpus");
  expect_refusal(evaluate(from + "--lengths 0", "o"), 2, "1 or more");
  expect_refusal(evaluate(from + "--patterns blokwise", "o"), 2, "blokwise");
  expect_refusal(evaluate(from + "--chunk 0 --lengths 32", "o"), 2, "--chunk 0");
  expect_refusal(evaluate(from + "--resolution 9000000", "o"), 2, "--resolution");
  expect_refusal(evaluate("--checkpoint " + run("nowhere"), "o"), 1, "nowhere");
  EXPECT_FALSE(std::filesystem::exists(run("o") + "/results.json"));
}

}  // namespace
}  // namespace lexring
