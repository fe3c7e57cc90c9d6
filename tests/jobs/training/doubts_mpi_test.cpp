/// Numbers that one rank gets wrong: who notices, who is named, and what the run does.
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "jobs/launch/exit_codes.h"
#include "tests/jobs/training/trainer_fixture.h"

namespace lexring {
namespace {

class DoubtsMpi : public TrainerFixture {
 protected:
  void SetUp() override {
    TrainerFixture::SetUp();
    options_.train.batch = 12;
  }
  /// A trainer with all that it lives on.
  struct Run {
    Run(const Options& options, const Mesh& mesh, const std::filesystem::path& data_file)
        : backend(make_backend({.device = DeviceChoice::cpu})),
          context(testing::world(), mesh),
          data(Dataset::open(data_file)),
          trainer(options, context, *backend, data, nullptr) {}
    std::unique_ptr<Backend> backend;
    Context context;
    Dataset data;
    Trainer trainer;
  };

  std::unique_ptr<Run> make_run(const std::string& name, int cp = 1, int tp = 1) {
    options_.checkpoint.directory = (directory_ / name).string();
    if (first()) std::filesystem::create_directories(options_.checkpoint.directory);
    testing::world()->barrier();
    return std::make_unique<Run>(options_, make_mesh(testing::world()->size(), 0, cp, tp), directory_ / "text.h5");
  }
  static bool first() { return testing::world()->rank() == 0; }
  static bool last() { return testing::world()->rank() == testing::world()->size() - 1; }
  static std::string last_name() { return "rank " + std::to_string(testing::world()->size() - 1) + " ("; }
  bool has_checkpoint(const std::string& run, const std::string& step) {
    testing::world()->barrier();
    return std::filesystem::exists(directory_ / run / step / "manifest.json");
  }

  /// Multiplies the gradients of this rank.
  static StepHooks::Change times(std::function<double()> factor) {
    return [factor = std::move(factor)](const std::vector<Parameter>& parameters) {
      const double by = factor();
      if (by == 1) return;
      for (const Parameter& parameter : parameters) {
        float* values = parameter.gradient.data<float>();
        for (std::int64_t i = 0; i < parameter.gradient.elements(); ++i) values[i] *= static_cast<float>(by);
      }
    };
  }
  /// Gradients of the last rank, of every pass while `wrong`.
  static void spoil(Trainer& trainer, const bool& wrong, double factor) {
    if (last()) trainer.replica().set_hooks({.gradients = times([&wrong, factor] { return wrong ? factor : 1.0; })});
  }
  /// The same, of one pass.
  static void spoil_once(Trainer& trainer, double factor) {
    if (!last()) return;
    const auto left = std::make_shared<bool>(true);
    trainer.replica().set_hooks({.gradients = times([left, factor] { return *left ? *left = false, factor : 1.0; })});
  }
  void look_for_spikes(SpikeChoice choice, std::int64_t window = 8) {
    options_.train.spike = choice;
    options_.train.spike_window = window;
  }
  template <class E, class F>
  static std::string message_of(const F& run) {
    try {
      run();
    } catch (const E& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }
};

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

/// One pass of one rank is wrong: the run is, bit for bit, one without that, with every Shard.
TEST_F(DoubtsMpi, AnErrorThatHappensOnceLeavesNoTraceAndIsNamed) {
  look_for_spikes(SpikeChoice::skip);
  for (const Shard shard : {Shard::none, Shard::state, Shard::gradients}) {
    options_.optimizer.shard = shard;
    for (const double factor : {std::numeric_limits<double>::infinity(), 1e6}) {
      const auto calm = make_run("calm"), hit = make_run("hit");
      for (int step = 1; step <= 12; ++step) {
        if (step == 10) spoil_once(hit->trainer, factor);
        if (first()) ::testing::internal::CaptureStderr();
        const StepMetrics a = calm->trainer.train_step(), b = hit->trainer.train_step();
        const std::string said = first() ? ::testing::internal::GetCapturedStderr() : "";
        EXPECT_EQ(a.loss, b.loss);
        EXPECT_EQ(a.gradient_norm, b.gradient_norm);
        EXPECT_FALSE(b.skipped);
        EXPECT_EQ(b.computed_twice, step == 10 ? std::optional<std::string>("transient") : std::nullopt);
        if (first() && step == 10) {
          EXPECT_CONTAINS(said, "was a machine's error");
          EXPECT_CONTAINS(said, "it was " + last_name());
        }
      }
      EXPECT_EQ(all_values(calm->trainer.model()), all_values(hit->trainer.model()));
    }
  }
}

TEST_F(DoubtsMpi, WhatIsNotFiniteTwiceIsSkippedAndTenInARowEndTheRun) {
  options_.checkpoint.every = 2;
  options_.train.steps = 100;
  const auto run = make_run("run");
  Trainer& trainer = run->trainer;
  if (last()) {
    trainer.replica().set_hooks(
        {.gradients = times([&] { return trainer.step() >= 3 ? std::numeric_limits<double>::quiet_NaN() : 1.0; })});
  }
  const std::string said = message_of<NumbersError>([&] { trainer.run(); });
  EXPECT_CONTAINS(said, "10 steps in a row");
  EXPECT_CONTAINS(said, "the last checkpoint is of step 2");
  EXPECT_EQ(trainer.step(), 13);
  EXPECT_TRUE(has_checkpoint("run", "step-00000002"));
  EXPECT_FALSE(has_checkpoint("run", "step-00000004"));
}

TEST_F(DoubtsMpi, ASpikeIsSkippedAndIsNoneOfTheTen) {
  look_for_spikes(SpikeChoice::skip, 32);
  const auto run = make_run("run");
  bool wrong = false;
  spoil(run->trainer, wrong, 1e6);
  for (int step = 0; step < 32; ++step) EXPECT_FALSE(run->trainer.train_step().spike_score);
  EXPECT_LT(*run->trainer.train_step().spike_score, 6);
  const auto before = all_values(run->trainer.model());
  wrong = true;
  for (int step = 0; step < 12; ++step) {
    const StepMetrics spike = run->trainer.train_step();
    EXPECT_TRUE(spike.skipped);
    EXPECT_GT(*spike.spike_score, 6);
    EXPECT_EQ(spike.computed_twice, "persistent");
  }
  EXPECT_EQ(all_values(run->trainer.model()), before);
  wrong = false;
  EXPECT_FALSE(run->trainer.train_step().skipped) << "spikes are not in the window";
  EXPECT_EQ(run->trainer.step(), 46);
}

TEST_F(DoubtsMpi, HalfAWindowOfSpikesInARowEndsTheRun) {
  look_for_spikes(SpikeChoice::skip, 8);
  options_.train.steps = 100;
  const auto run = make_run("run");
  Trainer& trainer = run->trainer;
  if (last()) trainer.replica().set_hooks({.gradients = times([&] { return trainer.step() >= 20 ? 1e6 : 1.0; })});
  EXPECT_CONTAINS(message_of<NumbersError>([&] { trainer.run(); }), "4 steps in a row were spikes");
  EXPECT_EQ(trainer.step(), 24);
}

TEST_F(DoubtsMpi, AStopEndsTheRunBeforeTheUpdate) {
  look_for_spikes(SpikeChoice::stop);
  options_.checkpoint.every = 10;
  options_.train.steps = 100;
  const auto run = make_run("run");
  Trainer& trainer = run->trainer;
  if (last()) trainer.replica().set_hooks({.gradients = times([&] { return trainer.step() == 14 ? 1e6 : 1.0; })});
  const std::string said = message_of<NumbersError>([&] { trainer.run(); });
  EXPECT_CONTAINS(said, "step 15: gradient norm");
  EXPECT_CONTAINS(said, "the last checkpoint is of step 10");
  EXPECT_TRUE(has_checkpoint("run", "step-00000010"));
}

/// What a run tells the places that its numbers go to.
class Recorded : public MetricSink {
 public:
  explicit Recorded(std::vector<std::string>& told) : told_(told) {}
  void begin(std::int64_t done, std::int64_t) override { told_.push_back("begin " + std::to_string(done)); }
  void write(const StepMetrics& metrics) override {
    told_.push_back(std::to_string(metrics.step));
    losses.push_back(metrics.loss);
  }
  void finish() override { told_.emplace_back("finish"); }
  std::vector<double> losses;

 private:
  std::vector<std::string>& told_;
};

TEST_F(DoubtsMpi, ARollbackGoesBackToTheCheckpointAndOnWithOtherData) {
  look_for_spikes(SpikeChoice::rollback);
  options_.checkpoint.every = 10;
  options_.train.steps = 14;
  options_.optimizer.shard = Shard::state;
  const auto run = make_run("run");
  Trainer& trainer = run->trainer;
  std::vector<std::string> told;
  MetricSinks sinks;
  const Recorded* recorded = nullptr;
  if (first()) {
    auto sink = std::make_unique<Recorded>(told);
    recorded = sink.get();
    sinks.push_back(std::move(sink));
  }
  std::int64_t seen = -1;
  int rollbacks = 0;
  if (last()) {
    trainer.replica().set_hooks({.gradients = times([&] {
                                   if (trainer.step() < seen) ++rollbacks;
                                   seen = trainer.step();
                                   return rollbacks < 2 && trainer.step() == 11 ? 1e6 : 1.0;
                                 })});
  }
  EXPECT_EQ(trainer.run(sinks), RunEnd::finished);
  EXPECT_EQ(trainer.step(), 14);
  EXPECT_TRUE(has_checkpoint("run", "step-00000010"));
  EXPECT_EQ(CheckpointReader(directory_ / "run").state().samples, 18 * options_.train.batch) << "2 + 2 steps were lost";
  EXPECT_EQ(CheckpointReader(directory_ / "run").state().spikes.rollbacks, 2);
  if (!first()) return;
  std::vector<std::string> expected = {"begin 0"};
  for (int step = 1; step <= 11; ++step) expected.push_back(std::to_string(step));
  for (const char* text : {"begin 10", "11", "begin 10", "11", "12", "13", "14", "finish"}) expected.emplace_back(text);
  EXPECT_EQ(told, expected);
  EXPECT_NE(recorded->losses[10], recorded->losses[11]) << "step 11 with other data";
}

TEST_F(DoubtsMpi, ARunGoesBackThreeTimesToOneCheckpoint) {
  look_for_spikes(SpikeChoice::rollback);
  options_.checkpoint.every = 10;
  options_.train.steps = 20;
  const auto run = make_run("run");
  Trainer& trainer = run->trainer;
  if (last()) trainer.replica().set_hooks({.gradients = times([&] { return trainer.step() == 11 ? 1e6 : 1.0; })});
  const std::string said = message_of<NumbersError>([&] { trainer.run(); });
  EXPECT_CONTAINS(said, "went back to the checkpoint of step 10 3 times already");
  EXPECT_TRUE(has_checkpoint("run", "step-00000010"));
}

/// Flips one bit of one value, after its update. (The lowest ones may be gone a step later: sums round.)
StepHooks::Change flip_at(const Trainer& trainer, std::int64_t step) {
  return [&trainer, step](const std::vector<Parameter>& parameters) {
    if (trainer.step() + 1 == step) *reinterpret_cast<std::uint32_t*>(parameters[2].value.raw()) ^= 1U << 16;
  };
}

TEST_F(DoubtsMpi, ARankThatDriftsIsNamedAndNothingOfItIsSaved) {
  for (const auto& [every, at] : {std::pair{4, 8}, std::pair{1000, 10}}) {
    options_.train.compare_every = every;
    options_.checkpoint.every = 5;
    options_.train.steps = 20;
    const std::string name = "run" + std::to_string(every);
    const auto run = make_run(name);
    Trainer& trainer = run->trainer;
    if (last()) trainer.replica().set_hooks({.values = flip_at(trainer, 7)});
    if (testing::world()->size() == 1) {  // nobody to compare with
      EXPECT_EQ(trainer.run(), RunEnd::finished);
      continue;
    }
    std::vector<MachineError::Suspect> suspects;
    std::string said;
    try {
      trainer.run();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const MachineError& error) {
      suspects = error.suspects();
      said = error.what();
    }
    EXPECT_EQ(trainer.step(), at);
    EXPECT_CONTAINS(said, last_name());
    EXPECT_CONTAINS(said, run->trainer.model().parameters()[2].name);
    EXPECT_CONTAINS(said, "the last checkpoint is of step 5, from before that");
    EXPECT_EQ(said.find("no majority") == std::string::npos, testing::world()->size() > 2) << said;
    EXPECT_EQ(suspects.size(), 1U) << "all ranks are on one node";
    EXPECT_TRUE(has_checkpoint(name, "step-00000005"));
    EXPECT_FALSE(has_checkpoint(name, "step-00000010"));
  }
}

/// It would look like data or model that are hopeless, but only one rank has that weight.
TEST_F(DoubtsMpi, AWeightThatIsNotFiniteOnOneRankIsItsMachinesError) {
  options_.train.steps = 20;
  const auto run = make_run("run");
  Trainer& trainer = run->trainer;
  if (last()) {
    trainer.replica().set_hooks({.values = [&](const std::vector<Parameter>& parameters) {
      if (trainer.step() == 6) parameters[2].value.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    }});
  }
  if (testing::world()->size() == 1) {
    EXPECT_CONTAINS(message_of<NumbersError>([&] { trainer.run(); }), "10 steps in a row");
    return;
  }
  EXPECT_CONTAINS(message_of<MachineError>([&] { trainer.run(); }), last_name());
  EXPECT_EQ(trainer.step(), 8);
}

TEST_F(DoubtsMpi, ReplicasOfAHealthyRunNeverDiffer) {
  options_.train.compare_every = 1;
  options_.checkpoint.every = 3;
  options_.train.steps = 6;
  options_.model.kv_heads = 2;  // two copies each on a tp of 4
  const int ranks = testing::world()->size();
  std::vector<std::array<int, 2>> meshes = {{1, 1}, {ranks, 1}};
  if (ranks % 2 == 0) meshes.push_back({1, ranks});
  if (ranks == 4) meshes.push_back({2, 2});
  for (const auto& [cp, tp] : meshes) {
    for (const Shard shard : {Shard::none, Shard::state, Shard::gradients}) {
      for (const PrecisionChoice precision : {PrecisionChoice::fp32, PrecisionChoice::bf16}) {
        options_.optimizer.shard = shard;
        options_.train.precision = precision;
        const std::string name = fmt::format("{}_{}_{}_{}", name_of(shard), name_of(precision), cp, tp);
        SCOPED_TRACE(name);
        EXPECT_EQ(make_run(name, cp, tp)->trainer.run(), RunEnd::finished);
      }
    }
  }
}

/// Moments of a replica alone do not show in its values before the next update: a save looks at them.
TEST_F(DoubtsMpi, ASaveComparesMoments) {
  if (testing::world()->size() == 1) return;
  const auto run = make_run("run");
  run->trainer.train_step();
  Replica& replica = run->trainer.replica();
  EXPECT_FALSE(replica.find_drift(true));
  if (last()) {
    for (const auto& tensor : replica.tensors_to_save()) {
      if (tensor.name.rfind("optimizer.second_moment.", 0) == 0)
        *reinterpret_cast<std::uint32_t*>(tensor.data.raw()) ^= 1U;
    }
  }
  EXPECT_FALSE(replica.find_drift(false));
  const auto drift = replica.find_drift(true);
  ASSERT_TRUE(drift);
  EXPECT_CONTAINS(drift->name, "optimizer.second_moment.");
}

}  // namespace
}  // namespace lexring
