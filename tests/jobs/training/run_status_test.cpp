#include "jobs/training/run_status.h"

#include <cmath>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <unistd.h>

#include "jobs/training/heartbeat.h"
#include "jobs/training/stragglers.h"

namespace lexring {
namespace {

class RunStatusTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory); }
  void TearDown() override { std::filesystem::remove_all(directory); }

  static RunPlace here() { return place_of_run("1 rank"); }
  static RunPlace elsewhere() { return {"another node", "", 1, "1 rank"}; }
  static int processes_that_ended() {
    const int child = fork();
    if (child == 0) _exit(0);
    return child;  // nobody has asked for it: a zombie
  }

  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("lexring_status_" + std::to_string(getpid()));
};

TEST_F(RunStatusTest, IsReadAsItWasWritten) {
  EXPECT_FALSE(read_status(directory).has_value());
  RunStatus written{.state = "training", .place = {"n1", "17", 4, "2 ranks"}, .started = 5, .written = 6.5};
  written.step = 3, written.steps = 9, written.loss = std::numeric_limits<double>::quiet_NaN(), written.useful = 0.1;
  ASSERT_TRUE(write_status(directory, written));
  const auto read = read_status(directory);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->state, "training");
  EXPECT_EQ(read->place.job, "17");
  EXPECT_EQ(read->place.pid, 4);
  EXPECT_EQ(read->written, 6.5);
  EXPECT_EQ(read->steps, 9);
  EXPECT_TRUE(std::isnan(read->loss));
  EXPECT_EQ(read->useful, 0.1);
  std::ofstream(directory / "status.json") << "{\"state\": 3}";
  EXPECT_FALSE(read_status(directory).has_value());
  EXPECT_FALSE(write_status(directory / "gone", written));
}

TEST_F(RunStatusTest, HistoryLeavesOutTornLines) {
  EXPECT_TRUE(append_history(directory, {1, "start", 0, "2 ranks"}));
  std::ofstream(directory / "history.jsonl", std::ios::app) << "{\"time\": 2, \"ki\n";
  EXPECT_TRUE(append_history(directory, {3, "end", 7, "a \xff byte"}));
  const auto events = read_history(directory);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].step, 7);
}

TEST_F(RunStatusTest, KnowsWhoIsGoneAndWhoIsSilent) {
  RunStatus status{.state = "training", .place = elsewhere(), .written = 1000};
  EXPECT_EQ(state_at(1100, status), "training");
  EXPECT_EQ(state_at(1130, status), "silent");
  status.step_seconds = 20;
  EXPECT_EQ(state_at(1130, status), "training");
  EXPECT_EQ(state_at(1201, status), "silent");
  status.longest_silence = 100;
  EXPECT_EQ(state_at(1290, status), "training");
  status.place = here();
  EXPECT_EQ(state_at(1001, status), "training");
  status.place.pid = processes_that_ended();
  for (int i = 0; i < 1000 && state_at(1001, status) != "killed"; ++i) usleep(10000);
  EXPECT_EQ(state_at(1001, status), "killed");
  status.state = "stopped";
  EXPECT_EQ(state_at(9999, status), "stopped");
}

TEST_F(RunStatusTest, TimeOfTurnsLeavesOutWhatLiesBetween) {
  const RunStatus now{.state = "training", .written = 75};
  EXPECT_EQ(seconds_of_turns({}, now), 0);
  EXPECT_EQ(seconds_of_turns({{10, "start"}, {12, "incident"}, {30, "end"}, {70, "start"}}, now), 25);
  EXPECT_EQ(seconds_of_turns({{10, "start"}, {30, "end"}}, now), 20);
}

TEST_F(RunStatusTest, ARunThatWasKilledIsEndedByTheNextTurn) {
  { Heartbeat first(directory, here(), 100); }  // refused before it began: says nothing
  EXPECT_FALSE(read_status(directory).has_value());
  ASSERT_TRUE(write_status(directory, {.state = "training", .place = here(), .written = 130, .step = 4}));
  {
    Heartbeat second(directory, here(), 150);
    std::ofstream(directory / "metrics.jsonl") << "{\"step\":1,\"seconds\":2.5}\n{\"step\":2,\"seconds\":2,"
                                                  "\"valid_seconds\":0.5}\n";
    second.begin(2, 4);
    second.write({.step = 3, .loss = 1.5, .tokens_per_second = 10, .seconds = 1, .incidents = {"rank 1 is slow"}});
    EXPECT_EQ(read_status(directory)->state, "training");
    EXPECT_EQ(read_status(directory)->useful, 6);
    second.write({.step = 4, .loss = 1, .tokens_per_second = 10, .seconds = 1, .skipped = true});
    second.finish();
  }
  EXPECT_EQ(read_status(directory)->state, "finished");
  EXPECT_EQ(read_status(directory)->step, 4);
  const auto events = read_history(directory);
  ASSERT_EQ(events.size(), 5U);
  EXPECT_EQ(events[0].kind, "end");
  EXPECT_EQ(events[0].time, 130);
  EXPECT_EQ(events[1].kind, "start");
  EXPECT_EQ(events[1].time, 150);
  EXPECT_EQ(events[2].text, "rank 1 is slow");
  EXPECT_EQ(events[3].kind, "incident");
  EXPECT_EQ(events[4].text, "finished");
}

TEST_F(RunStatusTest, StepsThatARollbackTookBackAreLost) {
  Heartbeat heartbeat(directory, here(), 100);
  heartbeat.begin(0, 9);
  for (int step = 1; step <= 3; ++step) heartbeat.write({.step = step, .seconds = 1});
  heartbeat.begin(1, 9);
  std::ofstream(directory / "metrics.jsonl") << "{\"step\":1,\"seconds\":1}\n";  // as it is cut back
  heartbeat.write({.step = 2, .seconds = 1, .computed_twice = "transient"});
  heartbeat.finish();
  EXPECT_EQ(read_status(directory)->useful, 2);
  const auto events = read_history(directory);
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(events[1].step, 1);
  EXPECT_NE(events[1].text.find("went back"), std::string::npos);
  EXPECT_EQ(events[2].text, "computed twice, transient");
}

TEST_F(RunStatusTest, WhoEndsWithoutFinishingHasFailed) {
  {
    Heartbeat heartbeat(directory, here(), 100);
    heartbeat.begin(0, 4);
  }
  EXPECT_EQ(read_status(directory)->state, "failed");
  EXPECT_EQ(read_history(directory).back().text, "failed");
}

TEST(Stragglers, AreThoseForWhomOthersWaitMoreThanATenthOfTheTime) {
  EXPECT_TRUE(slow_ranks({{10, 2}}).empty());
  EXPECT_TRUE(slow_ranks({{10, 2}, {10, 2.5}, {10, 1.1}}).empty());
  const auto slow = slow_ranks({{10, 5}, {10, 0}, {10, 5}, {10, 2}, {10, 4.5}});
  ASSERT_EQ(slow.size(), 2U);
  EXPECT_EQ(slow[0].rank, 1);
  EXPECT_NEAR(slow[0].share, 0.45, 1e-12);
  EXPECT_NEAR(slow[0].factor, 10 / 5.5, 1e-12);
  EXPECT_EQ(slow[1].rank, 3);
  EXPECT_EQ(slow_ranks({{10, 4}, {10, 0}}).size(), 1U);  // of two, the faster one is the measure
}

}  // namespace
}  // namespace lexring
