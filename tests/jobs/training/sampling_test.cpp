// Runs at drawn positions.
#include <cmath>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class SampledRuns : public JobTest {
 protected:
  static void done(const std::string& command) {
    const ProcessResult result = run_process(command);
    ASSERT_EQ(result.exit_code, 0) << command << "\n" << result.output;
  }
  static std::string sampled(const std::string& name, const std::string& keys) {
    return train(name, "--position.kind alibi --optimizer.schedule constant --sampling.limit 128 " + keys);
  }
  static void expect_near(const std::string& name, const std::string& other) {
    const auto a = metrics(name), b = metrics(other);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_NEAR(a[i]["loss"].get<double>(), b[i]["loss"].get<double>(), 1e-4) << name << " " << i;
  }
};

TEST_F(SampledRuns, DrawTheSameOnEveryMeshAndAfterAResume) {
  const std::string randomized = "--sampling.kind randomized ";
  done(sampled("whole", randomized + "--train.steps 6"));
  done(sampled("parts", randomized + "--train.steps 3"));
  done(sampled("parts", randomized + "--train.steps 6"));
  EXPECT_EQ(trajectory("parts"), trajectory("whole"));
  done(sampled("micro", randomized + "--train.steps 6 --train.micro_batch 1"));
  done(mpirun(2) + sampled("dp", randomized + "--train.steps 3"));
  done(mpirun(2) + sampled("dp", randomized + "--train.steps 6 --mesh.cp 2"));
  done(mpirun(2) + sampled("tp", randomized + "--train.steps 6 --mesh.tp 2"));
  for (const char* name : {"micro", "dp", "tp"}) expect_near(name, "whole");
  done(train("plain", "--position.kind alibi --optimizer.schedule constant --train.steps 6"));
  EXPECT_GT(std::abs(metrics("plain").back()["loss"].get<double>() - metrics("whole").back()["loss"].get<double>()),
            1e-3)
      << "positions tell";
  expect_refused(sampled("whole", "--sampling.kind pose --train.steps 8"), "other positions would be drawn");
}

TEST_F(SampledRuns, EachMethodTrainsAndLearnedPositionsReachFarEnough) {
  for (const std::string kind : {"shape", "random_padding", "pose"}) {
    const std::string keys = "--position.kind learned --sampling.limit 128 --train.steps 2 --sampling.kind " + kind;
    done(train(kind, keys));
    std::ifstream stream(run(kind) + "/config.ini");
    const std::string config((std::istreambuf_iterator<char>(stream)), {});
    EXPECT_EQ(occurrences(config, "\nmax_length = " + std::string(kind == "shape" ? "159" : "128") + "\n"), 1)
        << config;
    EXPECT_EQ(occurrences(config, "\n[sampling]\nkind = " + kind + "\nlimit = 128\n"), 1) << config;
    expect_refused(train("short", keys + " --model.max_length 100"), "learned ones for 100 tokens only");
  }
  const std::string cape = "--sampling.kind cape --train.steps 2 ";
  done(train("cape", cape + "--position.kind rope --sampling.local_shift 0.5 --sampling.global_scale 1.1"));
  expect_refused(train("none", cape + "--position.kind t5 --sampling.global_shift 3"),
                 "position.kind = t5 (layer 0) takes whole numbers only");
  expect_refused(train("none", cape), "changes nothing");
  expect_refused(train("cape", cape + "--position.kind rope --sampling.local_shift 0.5 --sampling.global_scale 1.2"),
                 "other positions would be drawn");
  const std::string landmarks = "--attention.normalizer landmark --attention.landmark_every 8 ";
  done(train("jump", landmarks + "--sampling.kind landmark_jump --sampling.jump 20 --train.steps 2"));
  expect_refused(train("none", landmarks + "--attention.pattern window --attention.window 9"),
                 "attention.normalizer = landmark with");
  expect_refused(train("none", "--sampling.limit 64"), "sampling.limit has an effect only with sampling.kind = ");
  expect_refused(train("none", "--sampling.kind pose"), "sampling.limit = 0 is too small");
  expect_refused(train("none", "--sampling.kind pose --sampling.limit 31"), "give at least 32");
  EXPECT_FALSE(std::filesystem::exists(run("none")));
}

}  // namespace
}  // namespace lexring
