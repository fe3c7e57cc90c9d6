#include "jobs/training/spike.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "jobs/launch/exit_codes.h"

namespace lexring {
namespace {

/// Median 3, deviations 2 1 0 1 2 of which the median is 1.
TEST(Spike, AScoreIsInRobustStandardDeviationsAboveTheMedian) {
  const std::vector<double> window = {1, 2, 3, 4, 5};
  EXPECT_NEAR(robust_score(window, 3 + 1.4826 * 7), 7, 1e-12);
  EXPECT_NEAR(robust_score(window, 3 - 1.4826), -1, 1e-12);
  EXPECT_NEAR(robust_score(std::vector<double>{4, 1, 3, 2}, 2.5 + 1.4826), 1, 1e-12) << "of an even number";
}

TEST(Spike, ASpikeInTheWindowDoesNotHideTheNextOne) {
  const std::vector<double> calm = {3.0, 3.1, 2.9, 3.05, 2.95, 3.02, 2.98, 3.0};
  std::vector<double> with_spike = calm;
  with_spike[4] = 1000;
  EXPECT_GT(robust_score(with_spike, 5), 6);
  EXPECT_LT(std::abs(robust_score(with_spike, 3.1) - robust_score(calm, 3.1)), 1);
}

TEST(Spike, AWindowThatHardlyVariesIsNotWithoutWidth) {
  const std::vector<double> same(8, 2.0);
  EXPECT_NEAR(robust_score(same, 2.004), 2, 1e-9);
  EXPECT_EQ(robust_score(std::vector<double>(8, 0.0), 1.0), 0);
}

TEST(Spike, TheWindowHoldsTheNewestAcceptedStepsThatHaveALoss) {
  SpikeState state;
  for (int step = 0; step < 8; ++step) {
    EXPECT_FALSE(spike_score(state, 8, 100, 100)) << step << " of 8 steps tell nothing";
    accept(state, 8, 10.0 - step, 1.0 + step);
  }
  ASSERT_TRUE(spike_score(state, 8, 100, 1));
  EXPECT_FALSE(spike_score(state, 8, std::numeric_limits<double>::quiet_NaN(), 1)) << "no targets, no loss";
  accept(state, 8, std::numeric_limits<double>::quiet_NaN(), 77);
  accept(state, 8, 2.5, 9);
  EXPECT_EQ(state.losses, (std::vector<double>{9, 8, 7, 6, 5, 4, 3, 2.5}));
  EXPECT_EQ(state.gradient_norms, (std::vector<double>{2, 3, 4, 5, 6, 7, 8, 9}));
  const SpikeScore by_norm = *spike_score(state, 8, 5, 60);
  EXPECT_GT(by_norm.gradient_norm, 6);
  EXPECT_EQ(by_norm.highest(), by_norm.gradient_norm) << "either of the two makes a spike";
  EXPECT_EQ(describe(by_norm, 8, 5, 60).rfind("gradient norm 60 is ", 0), 0U) << describe(by_norm, 8, 5, 60);
}

TEST(Spike, AWindowThatWasLongerCountsByItsNewestSteps) {
  SpikeState state;
  for (int step = 0; step < 16; ++step) accept(state, 16, step < 8 ? 100.0 + step : 3.0 + 0.1 * step, 1);
  EXPECT_GT(spike_score(state, 8, 50, 1)->loss, 6);
  EXPECT_LT(spike_score(state, 16, 50, 1)->loss, 6);
}

TEST(ExitCodes, AnErrorHasTheCodeOfItsKind) {
  EXPECT_EQ(failure_of(Error("a")).code, 1);
  EXPECT_EQ(failure_of(std::runtime_error("a")).code, 1);
  EXPECT_EQ(failure_of(std::bad_alloc()).code, 1);
  EXPECT_EQ(failure_of(UsageError("a")).code, 2);
  EXPECT_EQ(failure_of(NumbersError("a")).code, 3);
  const Failure machine = failure_of(MachineError("a", {{"node7", "it drifts"}, {"node9", "it too"}}));
  EXPECT_EQ(machine.code, 4);
  EXPECT_EQ(machine.message, "a");
  EXPECT_EQ(machine.lines, (std::vector<std::string>{"machine node7: it drifts", "machine node9: it too"}));
}

}  // namespace
}  // namespace lexring
