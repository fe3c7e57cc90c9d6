// Checkpoints saved on one mesh, loaded on others: the next steps are the same.
#include <gtest/gtest.h>

#include "jobs/launch/devices.h"
#include "jobs/training/run_directory.h"
#include "jobs/training/trainer.h"
#include "tests/parity/cases.h"
#include "tests/parity/workplace.h"
#include "tests/support/mpi_world.h"

namespace lexring::parity {
namespace {

/// Meshes of at most four ranks: sequence, heads, vocabulary and optimizer state cut in every way.
const std::vector<Case>& meshes() {
  // The model has matrices that a sharded optimizer cuts by rows.
  const auto on = [](int dp, int cp, int tp, int ulysses, const char* partition, const char* shard) {
    return Case{make_mesh(dp * cp * tp, dp, cp, tp, ulysses),
                partition,
                "causal",
                "ring",
                true,
                shard,
                "learned",
                77,
                0,
                "none"};
  };
  static const std::vector<Case> all = {
      on(1, 1, 1, 1, "-", "none"),       on(4, 1, 1, 1, "-", "gradients"),          on(1, 4, 1, 2, "zigzag", "state"),
      on(1, 1, 4, 1, "-", "none"),       on(1, 2, 2, 1, "contiguous", "gradients"), on(2, 1, 2, 1, "-", "state"),
      on(1, 3, 1, 1, "striped", "none"),
  };
  return all;
}

struct Numbers {
  double loss = 0, norm = 0;
};

class Reshard : public ::testing::TestWithParam<std::size_t> {
 protected:
  /// A trainer of the checkpoint in `directory` on the first ranks; null on the others.
  struct Run {
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Context> context;
    std::unique_ptr<Trainer> trainer;
  };
  Run start(const Case& which, const std::filesystem::path& directory) {
    const bool takes_part = world->rank() < which.mesh.ranks();
    std::shared_ptr<Communicator> group = world->split("reshard", takes_part ? 0 : 1);
    if (!takes_part) return {};
    Options options = options_of(which, directory.string());
    options.optimizer.lr = 0.01;  // what the moments say shows in the next loss but one
    options.optimizer.warmup = 0;
    options.optimizer.schedule = Decay::constant;
    options.train.steps = 2;
    Run run{make_backend({.device = DeviceChoice::cpu}), std::make_unique<Context>(group, which.mesh), nullptr};
    run.trainer = std::make_unique<Trainer>(options, *run.context, *run.backend, place.data(), nullptr);
    return run;
  }

  static Numbers step(Trainer& trainer) {
    const StepMetrics metrics = trainer.train_step();
    return {metrics.loss, metrics.gradient_norm};
  }

  std::shared_ptr<Communicator> world = lexring::testing::world();
  Workplace place{world, std::filesystem::temp_directory_path()};
};

TEST_P(Reshard, OtherMeshesGoOnAsIfNothingHadHappened) {
  const std::filesystem::path directory = place / "run";
  if (world->rank() == 0) std::filesystem::create_directories(directory);
  world->barrier();
  std::vector<Numbers> expected;
  {
    const Run run = start(meshes()[GetParam()], directory);
    if (run.trainer) {
      for (int n = 0; n < 2; ++n) run.trainer->train_step();
      run.trainer->run();  // no step is left: it saves
      for (int n = 0; n < 2; ++n) expected.push_back(step(*run.trainer));
    }
  }
  world->barrier();
  for (std::size_t other = 0; other < meshes().size(); ++other) {
    const Run run = start(meshes()[other], directory);
    if (run.trainer) {
      run.trainer->resume(CheckpointReader(directory));
      EXPECT_EQ(run.trainer->step(), 2);
      for (int n = 0; n < 2; ++n) {
        const Numbers numbers = step(*run.trainer);
        if (world->rank() > 0) continue;  // the same on every rank, and rank 0 takes part in all meshes
        const Numbers& before = expected[static_cast<std::size_t>(n)];
        EXPECT_NEAR(numbers.loss, before.loss, 1e-6 * before.loss) << meshes()[other].describe() << ", step " << 3 + n;
        EXPECT_NEAR(numbers.norm, before.norm, 1e-4 * before.norm) << meshes()[other].describe() << ", step " << 3 + n;
      }
    }
    world->barrier();
  }
}

INSTANTIATE_TEST_SUITE_P(Meshes, Reshard, ::testing::Range(std::size_t{0}, meshes().size()), [](const auto& given) {
  const Mesh& mesh = meshes()[given.param].mesh;
  return fmt::format("dp{}_cp{}_tp{}", mesh.size(Axis::dp), mesh.size(Axis::cp), mesh.size(Axis::tp));
});

}  // namespace
}  // namespace lexring::parity
