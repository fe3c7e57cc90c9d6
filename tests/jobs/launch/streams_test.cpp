/// What commands do when nobody takes what they say: full disks, closed streams, closed pipes, terminals of any width,
/// and what MPI adds.
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <vector>

#include "tests/jobs/small_runs.h"

namespace lexring {
namespace {

class Streams : public SmallRuns {};

TEST_F(Streams, WordsThatNobodyTakesEndNothing) {
  for (const char* lost : {"2>/dev/full", "2>&-", "<&- >&- 2>&-"}) {
    const auto result = run_process(train("run", "--train.steps 2 ") + lost);
    EXPECT_EQ(result.exit_code, 0) << lost << result.output;
    EXPECT_TRUE(std::filesystem::exists(run("run") / "step-00000002/manifest.json")) << lost;
    std::filesystem::remove_all(run("run"));
  }
  EXPECT_EQ(run_process(binary() + " nosuch 2>/dev/full").exit_code, 2);
}

TEST_F(Streams, ALostResultIsAnError) {
  ASSERT_EQ(run_process(train("run", "--train.steps 1")).exit_code, 0);
  const std::string prepared = run("again.h5").string();
  const std::vector<std::string> commands = {
      "--help",
      "train --help",
      "inspect " + data(),
      "generate --tokens 3 --prompt a --checkpoint " + run("run").string(),
      "bench --device cpu --train.precision fp32 --model.layers 1 --model.width 32 --model.heads 2 --train.length 32 "
      "--train.batch 2 --steps 1",
      "prepare --input " + text() + " --output " + prepared};
  for (const std::string& command : commands) {
    for (const char* lost : {" >/dev/full", " >&-"}) {
      std::filesystem::remove(prepared);  // an output that is there is refused
      const auto result = run_process(binary() + " " + command + lost);
      EXPECT_EQ(result.exit_code, 1) << command << lost << result.output;
      EXPECT_EQ(occurrences(result.output, "cannot be written to standard output"), 1)
          << command << lost << result.output;
    }
  }
  EXPECT_TRUE(std::filesystem::exists(prepared)) << "the data set itself is whole";
}

TEST_F(Streams, MetricsThatCannotBeWrittenEndNoRunBeforeItsEnd) {
  const auto result =  // 64 KiB hold a checkpoint, but not the lines of 400 steps
      run_process("trap '' XFSZ\nulimit -f 64\n" + train("run", "--train.steps 400 --model.width 8 --model.vocab 257"));
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_EQ(occurrences(result.output, "metrics.jsonl cannot be written: File too large; going on"), 1)
      << result.output;
  EXPECT_EQ(occurrences(result.output, "metrics.jsonl cannot be written: File too large; its last lines are lost"), 1)
      << result.output;
  EXPECT_TRUE(std::filesystem::exists(run("run") / "step-00000400"));
}

TEST_F(Streams, AClosedPipeEndsACommandQuietly) {
  ASSERT_EQ(run_process(train("run", "--train.steps 1")).exit_code, 0);
  const auto result =
      run_process("set -o pipefail\n" + binary() + " generate --tokens 100000 --prompt ab --checkpoint " +
                  run("run").string() + " | head -c 2");
  EXPECT_EQ(result.exit_code, 141) << result.output;
  EXPECT_EQ(result.output, "ab");
}

/// What a terminal gets that has 120 columns at first, and `later` after the first piece of output.
std::string on_terminal(const std::string& kind, unsigned short later, const std::string& command) {
  winsize size{24, 120, 0, 0};
  int terminal = -1;
  const pid_t process = forkpty(&terminal, nullptr, nullptr, &size);
  if (process == 0) {
    setenv("TERM", kind.c_str(), 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    execlp("bash", "bash", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  std::string seen;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(terminal, buffer, sizeof buffer)) > 0;) {
    seen.append(buffer, static_cast<std::size_t>(n));
    size.ws_col = later;
    if (seen.find("training") != std::string::npos) ioctl(terminal, TIOCSWINSZ, &size);
  }
  close(terminal);
  waitpid(process, nullptr, 0);
  return seen;
}

/// Columns of each picture of the bar.
std::vector<long> widths_of_bars(const std::string& seen) {
  std::vector<long> widths;
  const std::string redraw = "\r\x1b[K";
  for (auto at = seen.find(redraw); at != std::string::npos; at = seen.find(redraw, at + 1)) {
    const auto begin = at + redraw.size(), end = seen.find_first_of("\r\n", begin);
    const std::string line = seen.substr(begin, end - begin);
    widths.push_back(std::count_if(line.begin(), line.end(),
                                   [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }));
  }
  return widths;
}

TEST_F(Streams, TheBarStaysInOneRowAfterAResizeToo) {
  const auto widths = widths_of_bars(on_terminal("xterm", 40, train("run", "--train.steps 30")));
  ASSERT_GE(widths.size(), 2U);
  EXPECT_GT(widths.front(), 40);
  EXPECT_LE(widths.back(), 39);
}

TEST_F(Streams, ADumbTerminalGetsPlainLines) {
  const std::string seen = on_terminal("dumb", 40, train("run", "--train.steps 3"));
  EXPECT_NE(seen.find("training 3/3"), std::string::npos) << seen;
  EXPECT_EQ(seen.find('\x1b'), std::string::npos) << seen;
  EXPECT_EQ(seen.find("█"), std::string::npos) << seen;
}

TEST_F(Streams, OneMessageOfSeveralRanks) {
  const auto result = run_process(mpirun(2) + binary() + " verify --mesh.cp 2 --golden " + run("missing.h5").string());
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_EQ(occurrences(result.output, "\n"), 1) << result.output;
  EXPECT_EQ(result.output.rfind("lexring: rank 0: ", 0), 0U) << result.output;
}

TEST_F(Streams, AProcessAloneNeedsNeitherSshNorTemporaryFiles) {
  const auto result = run_process("PATH=/nonexistent TMPDIR=/nonexistent " + train("run", "--train.steps 1"));
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

}  // namespace
}  // namespace lexring
