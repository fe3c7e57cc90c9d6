/// A run of four ranks on two nodes that ends at once, with one of the nodes lost, goes on from its local checkpoints:
/// to the same losses.
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <span>
#include <thread>

#include <gtest/gtest.h>

#include "datasets/prepare.h"
#include "framework/base/error.h"
#include "jobs/launch/devices.h"
#include "jobs/training/trainer.h"
#include "parallel/checkpoint/promotion.h"
#include "parallel/checkpoint/steps.h"
#include "tests/support/mpi_world.h"

namespace lexring {
namespace {

using Losses = std::map<std::int64_t, double>;

/// On every rank, so that all of them end in the same step, as where the power fails. A stage of a local save takes one
/// step, however long a disk takes.
class Recording : public MetricSink {
 public:
  Recording(Losses& losses, const LocalTier* tier, std::int64_t ends_after)
      : losses_(losses), tier_(tier), ends_after_(ends_after) {}
  void begin(std::int64_t, std::int64_t) override {}
  void write(const StepMetrics& metrics) override {
    losses_[metrics.step] = metrics.loss;
    while (tier_ != nullptr && !tier_->stage_done()) std::this_thread::yield();
    require(metrics.step != ends_after_, "the power fails");
  }
  void finish() override {}

 private:
  Losses& losses_;
  const LocalTier* tier_;
  std::int64_t ends_after_;
};

class LocalCheckpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<std::int64_t, 1> id = {static_cast<std::int64_t>(std::random_device{}())};
    world->broadcast(std::as_writable_bytes(std::span(id)), 0);
    directory = std::filesystem::temp_directory_path() / ("lexring_local_" + std::to_string(id[0]));
    if (world->rank() == 0) {
      std::filesystem::create_directories(directory / "run");
      std::ofstream text(directory / "text.txt");
      for (int i = 0; i < 2000; ++i) text << "chunk " << i * 7919 % 1000 << " of the ring\n";
      text.close();
      PrepareOptions text_to_tokens;
      text_to_tokens.inputs = {(directory / "text.txt").string()};
      text_to_tokens.output = directory / "text.h5";
      prepare(text_to_tokens);
    }
    world->barrier();
    options.train.length = 16;
    options.train.batch = 8;
    options.train.steps = 40;
    options.optimizer.warmup = 0;
    options.model.vocab = 257;
    options.checkpoint.directory = (directory / "run").string();
    options.checkpoint.local = (directory / "local").string();
    options.checkpoint.local_every = 4;
    options.checkpoint.every = 0;
  }
  void TearDown() override {
    world->barrier();
    if (world->rank() == 0) std::filesystem::remove_all(directory);
  }

  LocalPlace place() const {
    return {*world, options.checkpoint.local, options.checkpoint.directory, {"a", "a", "b", "b"}};
  }

  /// From the newest checkpoint, where there is one, to the end or to the step after which the power fails.
  Losses run(int tp = 1, std::int64_t ends_after = -1, bool locally = true) const {
    const auto backend = make_backend({.device = DeviceChoice::cpu});
    const Context context(world, make_mesh(world->size(), 0, 1, tp));
    const Dataset data = Dataset::open(directory / "text.h5");
    const auto newest = find_checkpoint(*world, options.checkpoint.directory);
    Trainer trainer(options, context, *backend, data, nullptr);
    if (newest) trainer.resume(CheckpointReader(*newest));
    auto tier = locally ? std::make_unique<LocalTier>(*world, place()) : nullptr;
    const LocalTier* const kept = tier.get();
    trainer.keep_local(std::move(tier));
    Losses losses;
    MetricSinks sinks;
    sinks.push_back(std::make_unique<Recording>(losses, kept, ends_after));
    try {
      trainer.run(sinks);
      EXPECT_EQ(ends_after, -1);
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "the power fails");
    }
    return losses;
  }
  void once(const std::function<void()>& work) const {
    world->barrier();
    if (world->rank() == 0) work();
    world->barrier();
  }
  /// The step that a start now goes on from, after a node was lost.
  std::int64_t step_after_loss_of(const std::string& node) const {
    once([&] { std::filesystem::remove_all(place_.of_turn(*last_turn(options.checkpoint.directory)) / node); });
    const std::string said = promote_local(*world, place_, 3);
    EXPECT_NE(said.find("is newer than the run's last one"), std::string::npos) << said;
    return CheckpointReader(*world, options.checkpoint.directory).state().step;
  }
  static void expect_same_end(const Losses& whole, const Losses& part, std::int64_t after, double tolerance) {
    EXPECT_EQ(part.begin()->first, after + 1);
    EXPECT_EQ(part.rbegin()->first, whole.rbegin()->first);
    for (const auto& [step, loss] : part) {
      if (tolerance == 0) EXPECT_EQ(loss, whole.at(step)) << step;
      else EXPECT_NEAR(loss, whole.at(step), tolerance) << step;
    }
  }

  std::shared_ptr<Communicator> world = lexring::testing::world();
  std::filesystem::path directory;
  Options options;
  LocalPlace place_ = {*world, "", "", {"a", "a", "b", "b"}};
};

TEST_F(LocalCheckpoints, ARunThatLosesANodeTwiceHasTheSameLosses) {
  place_ = place();
  const Losses whole = run(1, -1, false);
  once([&] {
    std::filesystem::remove_all(directory / "run");
    std::filesystem::create_directories(directory / "run");
  });

  const Losses first = run(1, 22);
  EXPECT_EQ(first.size(), 22U);
  const std::int64_t step = step_after_loss_of("b");
  EXPECT_GE(step, 8);  // a save takes five steps, as many as it has stages
  const Losses second = run(1, 36);
  EXPECT_EQ(second.begin()->first, step + 1);
  for (const auto& [at, loss] : second) EXPECT_EQ(loss, whole.at(at)) << at;
  const std::int64_t later = step_after_loss_of("a");
  EXPECT_GT(later, step);

  once([&] { std::filesystem::copy(directory / "run", directory / "kept", std::filesystem::copy_options::recursive); });
  expect_same_end(whole, run(), later, 0);
  EXPECT_FALSE(std::filesystem::exists(place_.directory())) << "a run that has ended needs them no more";
  EXPECT_EQ(last_turn(options.checkpoint.directory), std::nullopt);

  once([&] {
    std::filesystem::remove_all(directory / "run");
    std::filesystem::rename(directory / "kept", directory / "run");
  });
  expect_same_end(whole, run(2), later, 1e-4);  // training lets roundings grow
}

}  // namespace
}  // namespace lexring
