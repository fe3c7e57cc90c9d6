/// Not a test of its own: a ring of messages in which rank 1 does what the command line says in the middle of it.
///
///   ring_held_up stop|kill|straggle|disagree|fail|explain|throw SECONDS     SECONDS: the watchdog's
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "framework/base/error.h"
#include "parallel/comm/host/session.h"
#include "parallel/comm/watch/watchdog.h"
#include "tests/support/ring_shift.h"

namespace {

using namespace lexring;

void shift(Communicator& ring, const std::vector<float>& mine, std::vector<float>& got) {
  testing::start_ring_shift(ring, std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(got))).wait();
}

/// A GPU's calls that the watchdog sees. Like NCCL's: what it tells of a failure may come of another rank's end.
class Calls final : public WatchedCalls {
 public:
  explicit Calls(bool throws) : throws_(throws) {}
  std::optional<HeldUpCall> held_up() override {
    if (throws_) fail("the GPU is gone");
    return std::nullopt;
  }
  std::optional<LastCall> behind() override { return std::nullopt; }
  std::string failure() override { return throws_ ? "" : "lost its GPU's connection"; }

 private:
  bool throws_;
};

/// Rank 1 fails, unwinds for a while, and, if it is to explain itself, ends the run with the reason; other ranks see
/// that something has failed.
void end_and_be_noticed(const std::string& how, Communicator& ring, MpiSession& session) {
  static Calls calls(how == "throw");
  if ((ring.rank() == 1) == (how == "throw")) session.state().progress->watch(calls);
  if (ring.rank() != 1 || how == "throw") return;
  std::this_thread::sleep_for(std::chrono::seconds(1));
  if (how == "explain") fail("there is no memory left");
  std::this_thread::sleep_for(std::chrono::hours(1));
}

void misbehave(const std::string& how, Communicator& ring) {
  if (how == "stop") std::raise(SIGSTOP);
  if (how == "kill") std::raise(SIGKILL);
  if (how == "straggle") std::this_thread::sleep_for(std::chrono::hours(1));
  if (how == "disagree") ring.barrier();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 2 ? argv[1] : "nothing";
  MpiSession session(argc, argv);
  try {
    const Watchdog watchdog(session, argc > 2 ? std::atof(argv[2]) : 0);
    const auto ring = session.world()->split("cp", 0);
    std::vector<float> mine(1 << 18), got(mine.size());
    for (int step = 0; step < 200; ++step) {
      if (step == 100 && (how == "fail" || how == "explain" || how == "throw")) end_and_be_noticed(how, *ring, session);
      if (step == 100 && ring->rank() == 1) misbehave(how, *ring);
      shift(*ring, mine, got);
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", session.world()->rank(), error.what());
    session.end_all(3);
  }
  return 0;
}
