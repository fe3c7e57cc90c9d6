/// Not a test of GoogleTest's: all ranks claim the word at the same time, as watchdogs of a busy machine do. One of
/// them must have it, and when it does nothing with it, the others may try again.
#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>

#include "framework/base/error.h"
#include "parallel/comm/host/mpi.h"
#include "parallel/comm/watch/side_channel.h"

namespace {

using namespace lexring;
using namespace std::chrono_literals;

void serve_until(SideChannel& channel, const std::function<bool()>& done, const char* what) {
  for (const auto until = std::chrono::steady_clock::now() + 100s; !done(); std::this_thread::sleep_for(1ms)) {
    require(std::chrono::steady_clock::now() < until, "{}", what);
    channel.serve();
  }
}

void claim_at_once(MpiSession& session) {
  Communicator& world = *session.world();
  SideChannel channel(session.state(), [] { return RankState{}; });
  world.barrier();
  channel.claim();
  world.barrier();
  if (world.rank() > 0)
    serve_until(
        channel, [&] { return channel.claimed(); }, "heard of no other rank's claim");
  world.barrier();
  for (int look = 0; look < 50; ++look) {
    channel.serve();
    require(world.rank() > 0 || !channel.claimed(), "leaves the word to a higher rank, which leaves it to this one");
    std::this_thread::sleep_for(1ms);
  }
  serve_until(
      channel, [&] { return !channel.claimed(); }, "waits for ever for whom it left the word to");
  world.barrier();
}

}  // namespace

int main(int argc, char** argv) {
  MpiSession session(argc, argv);
  try {
    claim_at_once(session);
  } catch (const Error& error) {
    std::fprintf(stderr, "rank %d %s\n", session.world()->rank(), error.what());
    session.end_all(1);
  }
  return 0;
}
