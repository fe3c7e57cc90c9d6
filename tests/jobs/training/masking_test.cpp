// Runs that learn hidden tokens.
#include <cmath>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class MaskedRuns : public JobTest {
 protected:
  static ProcessResult done(const std::string& command) {
    ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result;
  }
  static std::string masked(const std::string& name, const std::string& keys) {
    return train(name, "--train.objective mlm --attention.pattern full --optimizer.schedule constant " + keys);
  }
};

TEST_F(MaskedRuns, HideTheSameOnEveryMeshAndAfterAResume) {
  done(masked("whole", "--train.steps 6"));
  done(masked("parts", "--train.steps 3"));
  done(masked("parts", "--train.steps 6"));
  EXPECT_EQ(trajectory("parts"), trajectory("whole"));
  done(masked("micro", "--train.steps 6 --train.micro_batch 1 --train.recompute layer"));
  done(mpirun(2) + masked("cp", "--train.steps 6 --mesh.cp 2 --sequence.partition zigzag"));
  done(mpirun(2) + masked("dp", "--train.steps 3"));
  done(mpirun(2) + masked("dp", "--train.steps 6 --mesh.tp 2"));
  for (const char* name : {"micro", "cp", "dp"}) {
    for (std::size_t i = 0; i < 6; ++i)
      EXPECT_NEAR(metrics(name)[i]["loss"].get<double>(), metrics("whole")[i]["loss"].get<double>(), 1e-4) << name;
  }
  expect_refused(masked("whole", "--train.steps 8 --mlm.share 0.3"), "other targets would count");
}

TEST_F(MaskedRuns, AreEvaluatedByHiddenTokens) {
  done(masked("r", "--train.steps 60 --data.valid " + data()));
  const std::string evaluate = binary() + " evaluate --data " + data() + " --checkpoint " + run("r") + " --output " +
                               run("o") + " --overwrite --resolution 0 ";
  const ProcessResult result = done(evaluate + "--lengths 32,64 --tokens 8192 --chunk 16");
  EXPECT_EQ(occurrences(result.output, "losses of hidden tokens, 15 % (mlm)"), 1) << result.output;
  std::ifstream stream(run("o") + "/results.json");
  const nlohmann::json json = nlohmann::json::parse(stream);
  EXPECT_EQ(json["objective"], "mlm");
  EXPECT_EQ(json["series"][0]["pattern"], "full");
  const auto& cells = json["series"][0]["cells"];
  EXPECT_EQ(cells[0]["tokens"], cells[1]["tokens"]) << "the same tokens at any length";
  EXPECT_NEAR(cells[0]["tokens"].get<double>(), 0.15 * 8192, 150);
  const double trained = metrics("r").back()["loss"].get<double>();
  EXPECT_NEAR(cells[0]["loss"].get<double>(), trained, 0.5);
  EXPECT_LT(trained, 3.5);  // of ln 258 = 5.55

  expect_refused(evaluate + "--patterns causal", "choose attention.pattern = full");
  expect_refused(binary() + " evaluate --task passkey --sizes 300 --checkpoint " + run("r"), "tells no next one");
  expect_refused(binary() + " generate --prompt a --checkpoint " + run("r"), "with which text does not go on");
}

TEST_F(MaskedRuns, WhatDoesNotGoTogetherIsRefused) {
  expect_refused(train("x", "--attention.pattern full"), "which it is to predict");
  expect_refused(train("x", "--train.objective mlm"), "choose attention.pattern = full");
  expect_refused(masked("x", "--mlm.masked 0.8 --mlm.random 0.3"), "are more than all hidden tokens");
  expect_refused(masked("x", "--data.end_of_document none"), "leave it at token");
  expect_refused(train("x", "--mlm.share 0.2"), "mlm.share has an effect only with train.objective = mlm");
  done(train("causal", "--train.steps 2"));
  const std::string causal = " --checkpoint " + run("causal");
  expect_refused(binary() + " evaluate --patterns full --data " + data() + causal, "which it is to predict");
  expect_refused(binary() + " generate --prompt a --attention.pattern full" + causal, "choose a causal pattern");
}

}  // namespace
}  // namespace lexring
