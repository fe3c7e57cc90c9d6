// A run whose layers differ: trained, stopped, gone on with on any mesh, and evaluated.
#include <cmath>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class Layers : public JobTest {
 protected:
  static std::string done(const std::string& command) {
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result.output;
  }
  /// Su's hybrid, shipped as an experiment, at the size of a test.
  static std::string hybrid(const std::string& name, const std::string& keys) {
    return train(name, std::string("--config ") + LEXRING_SOURCE +
                           "/configs/hybrid_window_full.ini --attention.window 8 --layer.last.attention.logn_base 32 "
                           "--optimizer.schedule constant " +
                           keys);
  }
  static std::vector<double> losses(const std::string& name) {
    std::vector<double> losses;
    for (const auto& line : metrics(name)) losses.push_back(line["loss"].get<double>());
    return losses;
  }
  static double evaluated(const std::string& name, const std::string& pattern) {
    const std::string output = run(name + "_" + pattern);
    done(binary() + " evaluate --device cpu --lengths 64 --tokens 512 --resolution 0 --data " + data() +
         " --patterns " + pattern + " --checkpoint " + run(name) + " --output " + output);
    std::ifstream stream(output + "/results.json");
    return nlohmann::json::parse(stream)["series"][0]["cells"][0]["loss"].get<double>();
  }
};

TEST_F(Layers, ARunKeepsThemOnEveryMesh) {
  done(hybrid("whole", "--train.steps 6"));
  done(hybrid("parts", "--train.steps 3"));
  done(hybrid("parts", "--train.steps 6"));
  EXPECT_EQ(trajectory("parts"), trajectory("whole"));
  done(mpirun(2) + hybrid("two", "--train.steps 3 --mesh.cp 2"));
  done(mpirun(2) + binary() + " train --config " + run("two") + "/config.ini --train.steps 6");
  done(hybrid("one", "--train.steps 3"));
  done(mpirun(2) + hybrid("one", "--train.steps 6 --mesh.tp 2"));
  done(train("alike",
             "--position.kind rope --attention.pattern window --attention.window 8 --optimizer.schedule "
             "constant --train.steps 6"));
  const std::vector<double> expected = losses("whole");
  ASSERT_EQ(expected.size(), 6U);
  for (const char* name : {"two", "one"}) {
    ASSERT_EQ(losses(name).size(), 6U) << name;
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(losses(name)[i], expected[i], 1e-4) << name;
  }
  EXPECT_GT(std::abs(losses("alike").back() - expected.back()), 1e-3) << "the last layer is another";

  const std::string section =
      "\n[layer.1]\nposition.kind = none\nattention.pattern = causal\nattention.logn_base = 32\n"
      "attention.logn_clip = false\n";
  std::ifstream stream(run("two") + "/config.ini");
  const std::string written((std::istreambuf_iterator<char>(stream)), {});
  EXPECT_EQ(occurrences(written, section), 1) << written;
  const std::string shown = done(binary() + " inspect " + run("two"));
  EXPECT_EQ(occurrences(shown, "[layer.1]\n  position.kind = none\n"), 1) << shown;
  const ProcessResult others = run_process(hybrid("two", "--train.steps 8 --layer.0.attention.window 4"));
  EXPECT_NE(others.exit_code, 0);
  EXPECT_EQ(occurrences(others.output, "[layer.0]\nattention.window = 4\n"), 1) << others.output;
  EXPECT_EQ(occurrences(others.output, "was trained with"), 1) << others.output;
}

TEST_F(Layers, ThatHaveNothingOfTheModelStayInEvaluation) {
  done(hybrid("run", "--train.steps 20"));
  const double as_trained = evaluated("run", "window"), all_causal = evaluated("run", "causal");
  EXPECT_NE(as_trained, all_causal) << "the layers of the window";
  EXPECT_TRUE(std::isfinite(as_trained));
  const std::string said = done(binary() + " train --init " + run("run") +
                                " --layer.0.attention.window 4 --position.scaling linear --position.scaling_factor 2 "
                                "--train.length 64 --train.batch 2 --train.steps 1 --data.train " +
                                data() + " --checkpoint.directory " + run("new"));
  EXPECT_EQ(occurrences(said, "layer.0.attention.window the model's -> 4"), 1) << said;
  done(binary() + " generate --device cpu --tokens 3 --prompt 'the ring' --checkpoint " + run("new"));
}

TEST_F(Layers, WhatIsAddedToEmbeddingsIsTheModels) {
  const ProcessResult result = run_process(train("run", "--train.steps 1 --layer.0.position.kind sinusoidal"));
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(occurrences(result.output, "layer 0: position.kind = sinusoidal is added to the embeddings"), 1)
      << result.output;
}

}  // namespace
}  // namespace lexring
