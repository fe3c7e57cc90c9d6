// The whole program with --device cuda, on an emulated GPU (tests/support/emulated_gpu.cpp): training, checkpoints,
// evaluation and generation never touch the device's memory from the host, and give what the CPU gives.
#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class EmulatedGpu : public JobTest {
 protected:
  static std::string done(const std::string& command) {
    const ProcessResult result = run_process(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
    return result.output;
  }
  static std::string train_small(const std::string& name, const std::string& keys) {
    return train(name, "--model.width 64 --train.length 48 --train.batch 4 --train.steps 3 " + keys);
  }
  static void expect_close(const std::string& a, const std::string& b, double tolerance) {
    const auto x = metrics(a), y = metrics(b);
    ASSERT_EQ(x.size(), 3U);
    ASSERT_EQ(y.size(), 3U);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (const char* key : {"loss", "gradient_norm"}) {
        EXPECT_NEAR(x[i][key].get<double>(), y[i][key].get<double>(), tolerance * x[i][key].get<double>())
            << b << ", step " << i + 1 << ": " << key;
      }
    }
  }
};

TEST_F(EmulatedGpu, TrainsAsTheCpuDoesOnEveryMesh) {
  done(train_small("cpu", "--device cpu"));
  done(train_small("cuda", "--device cuda"));
  expect_close("cpu", "cuda", 1e-5);
  int number = 0;
  for (const std::string mesh : {"--mesh.cp 2", "--mesh.cp 2 --sequence.partition striped",
                                 "--mesh.cp 2 --mesh.ulysses 2", "--mesh.tp 2", "--mesh.dp 2"}) {
    const std::string name = "cuda" + std::to_string(number++);
    EXPECT_EQ(occurrences(done(mpirun(2) + train_small(name, "--device cuda " + mesh)), "MPI through host memory"), 1);
    expect_close("cpu", name, 1e-5);
  }
}

TEST_F(EmulatedGpu, TrainsAForgetGateAsTheCpuDoes) {
  const std::string gate = "--attention.forget_gate true --device ";
  done(train_small("cpu", gate + "cpu"));
  done(mpirun(2) + train_small("cuda", gate + "cuda --mesh.cp 2 --sequence.partition striped"));
  expect_close("cpu", "cuda", 1e-5);
}

TEST_F(EmulatedGpu, TrainsInBf16) {
  done(train_small("cpu", "--device cpu --train.precision bf16 --train.recompute layer"));
  done(train_small("cuda", "--device cuda --train.precision bf16 --train.recompute layer"));
  expect_close("cpu", "cuda", 2e-2);
  done(train_small("again", "--device cuda --train.precision bf16 --train.recompute layer"));
  EXPECT_EQ(trajectory("cuda"), trajectory("again"));
}

TEST_F(EmulatedGpu, ItsCheckpointsAreEveryones) {
  done(train_small("run", "--device cuda --optimizer.schedule constant"));
  const auto losses = [&](const std::string& name, int ranks, const std::string& keys) {
    done((ranks > 1 ? mpirun(ranks) : "") + binary() + " evaluate --data " + data() + " --checkpoint " + run("run") +
         " --output " + run(name) + " --lengths 48,120 --patterns causal,sink_window --tokens 480 --resolution 64 " +
         keys);
    std::ifstream stream(run(name) + "/results.json");
    return nlohmann::json::parse(stream);
  };
  const auto cpu = losses("cpu", 1, "--device cpu");
  for (const auto& [name, ranks, keys] : std::vector<std::tuple<std::string, int, std::string>>{
           {"whole", 1, "--device cuda"},
           {"streamed", 1, "--device cuda --chunk 50"},
           {"cp", 2, "--device cuda --mesh.cp 2 --sequence.partition striped"}}) {
    const auto cuda = losses(name, ranks, keys);
    for (std::size_t p = 0; p < 2; ++p) {
      for (std::size_t c = 0; c < 2; ++c) {
        const double a = cpu["series"][p]["cells"][c]["loss"], b = cuda["series"][p]["cells"][c]["loss"];
        EXPECT_NEAR(a, b, 1e-5 * a) << name;
      }
    }
    EXPECT_NEAR(cpu["resolution"][0]["value"].get<double>(), cuda["resolution"][0]["value"].get<double>(), 1e-4)
        << name;
  }

  const std::string greedy =
      binary() + " generate --checkpoint " + run("run") + " --prompt 'the ring ' --tokens 8 --temperature 0 ";
  const std::string text = done(greedy + "--device cpu");
  EXPECT_EQ(done(greedy + "--device cuda"), text);

  done(train_small("run", "--device cpu --optimizer.schedule constant --train.steps 6"));  // goes on elsewhere
  done(train_small("whole", "--device cpu --optimizer.schedule constant --train.steps 6"));
  EXPECT_NEAR(metrics("run").back()["loss"].get<double>(), metrics("whole").back()["loss"].get<double>(), 1e-4);
}

/// As on a cluster where one node's driver is down.
TEST_F(EmulatedGpu, EveryRankHasOneOrNone) {
  const std::string keys = train_small("run", "--device auto").substr(binary().size());
  const ProcessResult result = run_process(mpirun(1) + LEXRING_WITHOUT_GPU + keys + " : -n 1 " + binary() + keys);
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_EQ(occurrences(result.output, "device = auto is cpu on"), 1) << result.output;
}

}  // namespace
}  // namespace lexring
