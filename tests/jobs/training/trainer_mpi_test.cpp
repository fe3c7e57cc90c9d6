/// Steps that are not finite on one rank only.
#include <cmath>
#include <filesystem>
#include <limits>
#include <span>

#include <gtest/gtest.h>

#include "framework/backend/profiling.h"
#include "tests/jobs/training/trainer_fixture.h"

namespace lexring {
namespace {

/// Spoils what one kernel writes, while told to.
class SpoilingBackend : public ProfilingBackend {
 public:
  using ProfilingBackend::ProfilingBackend;
  bool spoil_loss = false;
  bool spoil_gradient = false;

  void cross_entropy(const Tensor& logits, const Tensor& targets, double scale, const Tensor& nll,
                     const Tensor& dlogits) override {
    ProfilingBackend::cross_entropy(logits, targets, scale, nll, dlogits);
    if (spoil_loss) fill(nll, std::numeric_limits<double>::quiet_NaN());
  }
  void embedding_backward(const Tensor& index, const Tensor& dx, const Tensor& dtable) override {
    ProfilingBackend::embedding_backward(index, dx, dtable);
    if (spoil_gradient) fill(dtable, std::numeric_limits<double>::infinity());
  }
};

class TrainerMpi : public TrainerFixture {
 protected:
  /// One good step, one that `spoil` spoils on the last rank, one more good one.
  void expect_skipped_everywhere(bool SpoilingBackend::*spoil) {
    const auto world = lexring::testing::world();
    const auto cpu = make_backend({.device = DeviceChoice::cpu});
    SpoilingBackend backend(*cpu);
    const Context context(world, make_mesh(world->size(), 0, 1, 1));
    const Dataset data = Dataset::open(directory_ / "text.h5");
    Trainer trainer(options_, context, backend, data, nullptr);

    EXPECT_FALSE(trainer.train_step().skipped);
    const auto before = all_values(trainer.model());
    backend.*spoil = world->rank() == world->size() - 1;
    const StepMetrics spoiled = trainer.train_step();
    EXPECT_TRUE(spoiled.skipped);
    EXPECT_EQ(std::isfinite(spoiled.loss), spoil == &SpoilingBackend::spoil_gradient);
    EXPECT_FALSE(std::isfinite(spoiled.gradient_norm) && std::isfinite(spoiled.loss));
    EXPECT_EQ(all_values(trainer.model()), before);
    backend.*spoil = false;
    const StepMetrics good = trainer.train_step();
    EXPECT_FALSE(good.skipped);
    EXPECT_EQ(good.step, 3);
    EXPECT_NE(all_values(trainer.model()), before);
    for (const float value : all_values(trainer.model())) ASSERT_TRUE(std::isfinite(value));
  }
};

TEST_F(TrainerMpi, ALossThatIsNotFiniteOnOneRankSkipsTheStepOnAll) {
  expect_skipped_everywhere(&SpoilingBackend::spoil_loss);
}

TEST_F(TrainerMpi, AGradientThatIsNotFiniteOnOneRankSkipsTheStepOnAll) {
  expect_skipped_everywhere(&SpoilingBackend::spoil_gradient);
}

TEST_F(TrainerMpi, AShardedOptimizerSkipsTheSameSteps) {
  for (const Shard shard : {Shard::state, Shard::gradients}) {
    options_.optimizer.shard = shard;
    expect_skipped_everywhere(&SpoilingBackend::spoil_gradient);
  }
}

/// What a run tells the places that its numbers go to.
class Recorded : public MetricSink {
 public:
  explicit Recorded(std::vector<std::string>& told) : told_(told) {}
  void begin(std::int64_t done, std::int64_t steps) override {
    told_.push_back("begin " + std::to_string(done) + " of " + std::to_string(steps));
  }
  void write(const StepMetrics& metrics) override { told_.push_back("step " + std::to_string(metrics.step)); }
  void finish() override { told_.emplace_back("finish"); }

 private:
  std::vector<std::string>& told_;
};

TEST_F(TrainerMpi, ASinkGetsEveryStepOnceAndTheEnd) {
  const auto world = lexring::testing::world();
  const auto backend = make_backend({.device = DeviceChoice::cpu});
  const Context context(world, make_mesh(world->size(), 0, 1, 1));
  const Dataset data = Dataset::open(directory_ / "text.h5");
  options_.train.steps = 3;
  std::vector<std::string> told;
  MetricSinks sinks;
  if (world->rank() == 0) {
    std::filesystem::create_directories(options_.checkpoint.directory);
    sinks.push_back(std::make_unique<Recorded>(told));
  }
  world->barrier();
  Trainer trainer(options_, context, *backend, data, nullptr);
  EXPECT_EQ(trainer.run(sinks), RunEnd::finished);
  const std::vector<std::string> all = {"begin 0 of 3", "step 1", "step 2", "step 3", "finish"};
  EXPECT_EQ(told, world->rank() == 0 ? all : std::vector<std::string>());
}

/// Validation's own sums against the mean over the same windows, one by one, whichever axis the ranks are on.
TEST_F(TrainerMpi, AValidationIsTheMeanOverItsWindows) {
  const auto world = lexring::testing::world();
  const int ranks = world->size();
  const auto backend = make_backend({.device = DeviceChoice::cpu});
  const Dataset data = Dataset::open(directory_ / "text.h5");
  options_.train.valid_windows = 5;  // of many: spread over all of them, and no multiple of the ranks
  std::vector<Mesh> meshes = {make_mesh(ranks, 0, 1, 1), make_mesh(ranks, 1, ranks, 1)};
  if (options_.model.heads % ranks == 0) meshes.push_back(make_mesh(ranks, 1, 1, ranks));
  for (const Mesh& mesh : meshes) {
    SCOPED_TRACE(mesh.describe());
    const Context context(world, mesh);
    Replica replica(replica_settings(options_), context, *backend);
    replica.initialise(3);
    const std::int64_t length = options_.train.length, available = (data.tokens() - 1) / length;
    double sum = 0;
    for (std::int64_t i = 0; i < 5; ++i) {
      const std::int64_t first = i * available / 5 * length;
      const ModelBatch window = to_model_batch(read_windows(data, first, 1, length, Documents::mask), 0);
      sum += replica.model().evaluate(window).nll_sum();
    }
    context.axis(Axis::cp).all_reduce(std::span(&sum, 1), Reduce::sum);
    const Validation validation(options_, context, data);
    EXPECT_NEAR(*validation.loss(replica.model(), [] { return false; }), sum / (5.0 * length), 1e-12);
    int asked = 0;
    EXPECT_FALSE(validation.loss(replica.model(), [&] { return ++asked == 2; }));
  }
}

TEST_F(TrainerMpi, ReplicasHoldTheSameParameters) {
  const auto world = lexring::testing::world();
  const auto backend = make_backend({.device = DeviceChoice::cpu});
  const Context context(world, make_mesh(world->size(), 0, 1, 1));
  const Dataset data = Dataset::open(directory_ / "text.h5");
  Trainer trainer(options_, context, *backend, data, nullptr);
  for (int step = 0; step < 3; ++step) trainer.train_step();
  const auto mine = all_values(trainer.model());
  auto first = mine;
  world->broadcast(std::as_writable_bytes(std::span(first)), 0);
  EXPECT_EQ(mine, first);
}

}  // namespace
}  // namespace lexring
