/// Signals to the program that users run. tests/jobs/launch/stops.cpp has stops at random moments.
#include <csignal>

#include "tests/jobs/small_runs.h"

namespace lexring {
namespace {

class Signals : public SmallRuns {
 protected:
  /// Shell lines that wait until `file` holds `words`, or process $pid is over.
  static std::string until(const std::filesystem::path& file, const std::string& words) {
    return fmt::format("until grep -q '{}' {} || ! kill -0 $pid; do sleep 0.05; done\n", words, file.string());
  }
};

/// Not SIGINT, which a test that was started in the background ignores.
TEST_F(Signals, CommandsThatSaveNothingEndAtOnce) {
  for (const auto& [name, number] : {std::pair("TERM", SIGTERM), std::pair("HUP", SIGHUP)}) {
    const auto result = run_process(
        fmt::format("timeout --preserve-status -s {} 1 {} bench --device cpu --train.precision fp32 --steps 1000000",
                    name, binary()));
    EXPECT_EQ(result.exit_code, 128 + number) << result.output;
    EXPECT_LT(result.seconds, 20);
  }
}

TEST_F(Signals, AStopEndsAValidationAndSaves) {
  const std::string keys = "--train.steps 5 --train.valid_every 1 --train.valid_windows 1000000 --data.valid " + data();
  const auto result =
      run_process("echo >" + run("log").string() + "\n" + train("run", keys) + " 2>" + run("log").string() +
                  " & pid=$!\n" + until(run("log"), "results in") + "sleep 1; kill -TERM $pid; wait $pid");
  EXPECT_EQ(result.exit_code, 75) << content(run("log"));
  const std::string metrics = content(run("run") / "metrics.jsonl");
  EXPECT_EQ(occurrences(metrics, "\n"), 1) << metrics;
  EXPECT_EQ(occurrences(metrics, "valid_loss"), 0) << metrics;
  EXPECT_TRUE(std::filesystem::exists(run("run") / "step-00000001/manifest.json"));
}

TEST_F(Signals, NohupKeepsARunAlive) {
  const auto result = run_process("trap '' HUP\n" + train("run", "--train.steps 200") +
                                  " & pid=$!\nsleep 1; kill -HUP $pid; wait $pid");
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_TRUE(std::filesystem::exists(run("run") / "step-00000200/manifest.json")) << result.output;
}

/// Handlers run on threads that do not block their signal: one, which does not compute.
TEST_F(Signals, EveryThreadButOneBlocksThem) {
  const auto result =
      run_process("export OMP_NUM_THREADS=2\n" + train("run", "--train.steps 1000000") + " 2>/dev/null & pid=$!\n" +
                  "touch " + run("log").string() + "\nuntil [ -s " + (run("run") / "metrics.jsonl").string() +
                  " ] || ! kill -0 $pid; do sleep 0.05; done\nsed -n 's/SigBlk:.*\\(....\\)$/\\1/p' "
                  "/proc/$pid/task/*/status\nkill -9 $pid; wait $pid");
  int open = 0, closed = 0;
  // HUP, INT, QUIT, USR1, USR2, PIPE, ALRM and TERM are signals 1, 2, 3, 10, 12, 13, 14 and 15.
  for (std::size_t at = 0, end = 0; (end = result.output.find('\n', at)) != std::string::npos; at = end + 1) {
    if (end - at != 4) continue;
    const auto mask = std::stoul(result.output.substr(at, 4), nullptr, 16);
    ((mask & 0x7a07) == 0x7a07 ? closed : open) += 1;
  }
  EXPECT_EQ(open, 1) << result.output;
  EXPECT_GE(closed, 2) << result.output;
}

}  // namespace
}  // namespace lexring
