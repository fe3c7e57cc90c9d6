// Runs with landmark attention, from a configuration file to evaluation and continued text.
#include <cmath>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class LandmarkRuns : public JobTest {
 protected:
  static ProcessResult done(const std::string& command) {
    ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result;
  }
  static std::string landmarks(const std::string& name, const std::string& keys) {
    return train(name, "--config " LEXRING_SOURCE
                       "/configs/landmark.ini --attention.landmark_every 7 --optimizer.schedule constant " +
                           keys);
  }
};

TEST_F(LandmarkRuns, TrainTheSameOnEveryMeshAndAfterAResume) {
  done(landmarks("whole", "--train.steps 6"));
  done(mpirun(2) + landmarks("parts", "--train.steps 3 --mesh.cp 2"));
  expect_refused(landmarks("parts", "--train.steps 6 --attention.landmark_every 9"),
                 "attention.landmark_every = 9 but");
  done(mpirun(2) + landmarks("parts", "--train.steps 6"));
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(metrics("parts")[i]["loss"].get<double>(), metrics("whole")[i]["loss"].get<double>(), 1e-5) << i;
}

TEST_F(LandmarkRuns, AreEvaluatedAndContinued) {
  done(landmarks("r", "--train.steps 60 --data.valid " + data()));
  const double trained = metrics("r").back()["loss"].get<double>();
  EXPECT_LT(trained, 3.5);  // of ln 258 = 5.55
  EXPECT_NEAR(metrics("r").back()["valid_loss"].get<double>(), trained, 0.3);
  const std::string evaluate = binary() + " evaluate --checkpoint " + run("r");
  const ProcessResult result = done(evaluate + " --data " + data() + " --output " + run("o") +
                                    " --resolution 0 --lengths 32,256 --tokens 8192 --chunk 64");
  EXPECT_EQ(occurrences(result.output, "a landmark after every 7 tokens, counted in lengths"), 1) << result.output;
  std::ifstream stream(run("o") + "/results.json");
  const nlohmann::json json = nlohmann::json::parse(stream);
  EXPECT_EQ(json["landmark_every"], 7);
  const auto& cells = json["series"][0]["cells"];
  for (const auto& cell : cells) {
    EXPECT_EQ(cell["tokens"], 7 * 1024) << "of each eight places one is a landmark's";
    EXPECT_NEAR(cell["loss"].get<double>(), trained, 0.5);
    // Each of these tokens is a byte.
    EXPECT_NEAR(cell["bits_per_byte"].get<double>(), cell["loss"].get<double>() / std::log(2.0), 1e-9);
  }
  done(evaluate + " --task passkey --sizes 300,310 --count 2 --chunk 100");

  const std::string generate = binary() + " generate --temperature 0 --checkpoint " + run("r") +
                               " --tokens 40 --prompt 'ring attention chunk halo ' 2>/dev/null";
  const std::string text = done(generate).output;
  EXPECT_EQ(text.size(), 26U + 40 + 1) << text;
  EXPECT_EQ(done(generate + " --chunk 5").output, text);

  done(train("plain", "--train.steps 2"));
  expect_refused(evaluate + " --checkpoint " + run("plain") + " --data " + data(),
                 "would hold different tokens; evaluate them one by one");
}

TEST_F(LandmarkRuns, LearnATaskInWindowsThatGrow) {
  const std::string texts = run("task") + ".h5";
  done(binary() + " prepare --task first --sizes 1,2 --count 200 --output " + texts);
  const std::string keys =
      " --attention.landmark_every 4 --train.steps 2 --data.train " + texts + " --data.valid " + texts;
  expect_refused(landmarks("x", keys + " --train.length 6"), "set train.length = 7");
  done(landmarks("x", keys + " --train.length 7"));
}

TEST_F(LandmarkRuns, WhatDoesNotGoTogetherIsRefused) {
  expect_refused(landmarks("x", "--attention.landmark_token 32"), "they get the id behind those, 257; leave");
  expect_refused(landmarks("x", "--model.vocab 257"), "to which attention.normalizer = landmark adds the landmark");
  expect_refused(landmarks("x", "--layer.0.attention.landmark_every 5"), "all layers read the same text");
  expect_refused(train("x",
                       "--attention.pattern full --train.objective mlm --layer.0.attention.pattern causal "
                       "--layer.0.attention.normalizer landmark --layer.0.attention.landmark_every 4"),
                 "meets only the blocks before a token");
}

}  // namespace
}  // namespace lexring
