#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class DryRun : public JobTest {};

TEST_F(DryRun, SaysWhatATrainingWouldTakeAndLeavesNothingBehind) {
  const ProcessResult one = run_process(train("r", "--train.steps 50 --dry-run"));
  EXPECT_EQ(one.exit_code, 0) << one.output;
  EXPECT_EQ(occurrences(one.output, "dp 1 x cp 1 x tp 1"), 1) << one.output;
  EXPECT_EQ(occurrences(one.output, "50 steps of 192 tokens read 9.6k of them"), 1) << one.output;
  EXPECT_EQ(occurrences(one.output, "would begin from the start"), 1) << one.output;
  EXPECT_FALSE(std::filesystem::exists(run("r")));
  const ProcessResult ranks = run_process(mpirun(3) + train("r", "--mesh.cp 3 --dry-run"));
  EXPECT_EQ(ranks.exit_code, 0) << ranks.output;
  EXPECT_EQ(occurrences(ranks.output, "dp 1 x cp 3 x tp 1"), 1) << ranks.output;
  EXPECT_EQ(occurrences(ranks.output, "for each rank"), 1) << ranks.output;
  EXPECT_FALSE(std::filesystem::exists(run("r")));
}

TEST_F(DryRun, OneProcessSpeaksForAsManyRanksAsTheKeysName) {
  const ProcessResult planned = run_process(train("r", "--mesh.dp 3 --mesh.cp 2 --mesh.tp 2 --dry-run"));
  EXPECT_EQ(planned.exit_code, 0) << planned.output;
  EXPECT_EQ(occurrences(planned.output, "dp 3 x cp 2 x tp 2"), 1) << planned.output;
  EXPECT_EQ(occurrences(planned.output, "for all ranks of a node"), 1) << planned.output;
}

TEST_F(DryRun, RefusesWhatATrainingWouldRefuse) {
  expect_refused(train("r", "--dry-run --mesh.dp 4"), "train.batch");
  expect_refused(train("r", "--dry-run --mesh.tp 3"), "mesh.tp = 3");
  expect_refused(train("r", "--dry-run --data.train " + (shared() / "none.h5").string()), "none.h5", 1);
  expect_refused(train("r", "--dry-run --checkpoint.directory /proc/none"), "cannot be made", 1);
  ASSERT_EQ(run_process(train("there", "--train.steps 2")).exit_code, 0);
  expect_refused(train("there", "--dry-run --train.length 16"), "train.length = 32, now they are 1 and 16");
  const ProcessResult on = run_process(train("there", "--dry-run --train.steps 4"));
  EXPECT_EQ(on.exit_code, 0) << on.output;
  EXPECT_EQ(occurrences(on.output, "would begin resumed from"), 1) << on.output;
  EXPECT_EQ(metrics("there").size(), 2U);
}

TEST_F(DryRun, WhatDoesNotFitIsAnError) {
  const ProcessResult large =
      run_process(train("r", "--dry-run --model.layers 4000 --model.width 8192 --model.heads 64"));
  EXPECT_EQ(large.exit_code, 1) << large.output;
  EXPECT_EQ(occurrences(large.output, "more memory is needed than is free"), 1) << large.output;
  EXPECT_EQ(occurrences(large.output, "more disk is needed than is free"), 1) << large.output;
}

}  // namespace
}  // namespace lexring
