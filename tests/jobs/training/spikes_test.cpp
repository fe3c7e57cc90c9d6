#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

/// Text with stretches of bytes that are nowhere else: a step that meets one has a loss far above the others'.
class Spikes : public JobTest {
 protected:
  static void SetUpTestSuite() {
    JobTest::SetUpTestSuite();
    std::ofstream text(shared() / "odd.txt", std::ios::binary);
    for (int part = 0; part < 40; ++part) {
      for (int i = 0; i < 60; ++i) text << "the ring of chunks and keys ";
      if (part % 10 == 3) {
        for (int i = 0; i < 40; ++i) text << static_cast<char>('!' + (i * 37 + part * 11) % 60);
      }
    }
    text.close();
    const auto made = run_process(binary() + " prepare --input " + (shared() / "odd.txt").string() + " --output " +
                                  (shared() / "odd.h5").string());
    ASSERT_EQ(made.exit_code, 0) << made.output;
  }
  static std::string train_odd(const std::string& name, const std::string& keys) {
    return train(name, "--data.train " + (shared() / "odd.h5").string() +
                           " --device cpu --cpu.isa baseline --optimizer.schedule constant --checkpoint.every 12 "
                           "--train.spike_window 16 "
                           "--train.steps 80 --train.spike " +
                           keys);
  }
  static std::string all(const std::string& name) {
    std::string text;
    for (auto line : metrics(name)) {
      for (const char* measured : {"tokens_per_second", "flops", "memory", "seconds"}) line.erase(measured);
      text += line.dump() + "\n";
    }
    return text;
  }
  /// Stopped by a signal after so many lines of metrics.
  static std::string stopped(const std::string& name, const std::string& command, int lines) {
    return command + " & pid=$!\nuntil [ \"$(cat " + run(name) + "/metrics.jsonl 2>/dev/null | wc -l)\" -ge " +
           std::to_string(lines) + " ] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done\nkill -TERM $pid; wait $pid";
  }
};

/// A run that is stopped again and again decides as one that is not.
TEST_F(Spikes, AResumedRunSkipsTheSameSteps) {
  const ProcessResult whole = run_process(train_odd("whole", "skip"));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_GE(occurrences(whole.output, "standard deviations above the median of the 16 accepted steps before"), 1)
      << whole.output;
  EXPECT_GE(occurrences(all("whole"), "\"skipped\":true"), 1) << all("whole");
  EXPECT_EQ(occurrences(all("whole"), "\"spike_score\""), occurrences(all("whole"), "\n") - 16);
  for (const char* const keys : {"skip --train.steps 21", "skip --train.steps 50", "skip"}) {
    const ProcessResult part = run_process(train_odd("parts", keys));
    ASSERT_EQ(part.exit_code, 0) << part.output;
  }
  EXPECT_EQ(all("whole"), all("parts"));
}

TEST_F(Spikes, ARollbackIsTheSameAfterAStop) {
  const ProcessResult whole = run_process(train_odd("whole", "rollback"));
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  EXPECT_GE(occurrences(whole.output, "the run goes back to the checkpoint of step"), 1) << whole.output;
  const auto lines = metrics("whole");
  ASSERT_EQ(lines.size(), 80U) << "one line per step";
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["step"], i + 1);
  int stops = 0;
  for (const int at : {20, 41, 70})
    stops += run_process(stopped("parts", train_odd("parts", "rollback"), at)).exit_code == 75 ? 1 : 0;
  EXPECT_GE(stops, 1);
  const ProcessResult last = run_process(train_odd("parts", "rollback"));
  ASSERT_EQ(last.exit_code, 0) << last.output;
  EXPECT_EQ(all("whole"), all("parts"));
  // A checkpoint that falls due with the last step is one to go back to.
  for (const char* const keys : {"rollback --train.steps 72", "rollback"}) {
    const ProcessResult part = run_process(train_odd("continued", keys));
    ASSERT_EQ(part.exit_code, 0) << part.output;
  }
  EXPECT_EQ(all("whole"), all("continued"));
}

TEST_F(Spikes, AStopHasAnExitCodeOfItsOwnAndOneMessage) {
  const ProcessResult result = run_process(mpirun(2) + train_odd("run", "stop"));
  EXPECT_EQ(result.exit_code, 3) << result.output;
  EXPECT_EQ(occurrences(result.output, "lexring: "), 1) << result.output;
  EXPECT_EQ(occurrences(result.output, "train.spike = stop; the last checkpoint is of step "), 1) << result.output;
}

TEST_F(Spikes, ARollbackNeedsCheckpoints) {
  expect_refused(train("run", "--train.spike rollback"), "checkpoint.every = 0 saves none before the end");
  expect_refused(train("run", "--train.spike_score 3"), "train.spike");
}

}  // namespace
}  // namespace lexring
