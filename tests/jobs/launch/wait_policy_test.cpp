/// When the program starts itself once more, and what it is then. This program is both: the test, and with `say` the
/// one that is started.
#include "jobs/launch/wait_policy.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include <gtest/gtest.h>
#include <sys/time.h>

#include "tests/support/process.h"

namespace lexring {
namespace {

std::string self() { return std::filesystem::read_symlink("/proc/self/exe"); }

/// `say once more` of this program; `before` is what a shell has in front of it.
std::string said(const std::string& before) {
  return run_process("unset GOMP_SPINCOUNT OMP_WAIT_POLICY\n" + before + " " + self() + " say 'once more'").output;
}

TEST(WaitPolicy, TheSameProgramIsStartedOnceMoreWithShortWaits) {
  EXPECT_EQ(said(""), "says 'once more': GOMP_SPINCOUNT 1000, called wait_policy_tes\n");
}

TEST(WaitPolicy, WhoeverStartsItHasTheLastWord) {
  EXPECT_EQ(said("GOMP_SPINCOUNT=7"), "says 'once more': GOMP_SPINCOUNT 7, called wait_policy_tes\n");
  EXPECT_EQ(said("OMP_WAIT_POLICY=active"), "says 'once more': GOMP_SPINCOUNT unset, called wait_policy_tes\n");
}

TEST(WaitPolicy, ByWayOfTheLoaderItStaysWhatItIs) {
  std::ifstream maps("/proc/self/maps");
  std::string loader;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/ld-") != std::string::npos) loader = line.substr(line.find('/'));
  }
  ASSERT_NE(loader, "");
  EXPECT_EQ(said(loader).rfind("says 'once more': GOMP_SPINCOUNT unset", 0), 0U) << said(loader);
}

/// What a profiler started would end the new program, where nobody has a handler yet; what has no handler is a limit,
/// and stays.
TEST(WaitPolicy, ClocksThatHaveAHandlerAreStopped) {
  EXPECT_EQ(said("CLOCK=handled"), "says 'once more': GOMP_SPINCOUNT 1000, called wait_policy_tes\n");
  EXPECT_EQ(said("CLOCK=bare"), "says 'once more': GOMP_SPINCOUNT 1000, called wait_policy_tes, with a clock\n");
}

TEST(WaitPolicy, TheProgramThatUsersRunDoesSo) {
  const auto result =
      run_process("unset GOMP_SPINCOUNT OMP_WAIT_POLICY\n" LEXRING_BINARY
                  " bench --device cpu --steps 1000000 >/dev/null 2>&1 & pid=$!\n"
                  "until grep -qz GOMP_SPINCOUNT=1000 /proc/$pid/environ || ! kill -0 $pid; do sleep 0.05; done\n"
                  "cat /proc/$pid/comm; tr '\\0' ' ' </proc/$pid/cmdline; { kill -9 $pid; wait $pid; } 2>/dev/null",
                  60);
  EXPECT_EQ(result.output, "lexring\n" LEXRING_BINARY " bench --device cpu --steps 1000000 ");
}

/// As main does: what comes before it is a profiler's doing, once, in the program that was started first.
int say(char** arguments) {
  const char* clock = std::getenv("CLOCK");
  const itimerval hour{{0, 0}, {3600, 0}};
  if (clock != nullptr && std::getenv("GOMP_SPINCOUNT") == nullptr) {
    if (std::strcmp(clock, "handled") == 0) std::signal(SIGPROF, [](int) {});
    setitimer(ITIMER_PROF, &hour, nullptr);
  }
  let_waiting_threads_sleep(arguments);
  const char* spins = std::getenv("GOMP_SPINCOUNT");
  itimerval running{};
  getitimer(ITIMER_PROF, &running);
  std::string name;
  std::getline(std::ifstream("/proc/self/comm"), name);
  std::cout << "says '" << arguments[2] << "': GOMP_SPINCOUNT " << (spins != nullptr ? spins : "unset") << ", called "
            << name << (running.it_value.tv_sec > 0 ? ", with a clock" : "") << "\n";
  return 0;
}

}  // namespace
}  // namespace lexring

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "say") == 0) return lexring::say(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
