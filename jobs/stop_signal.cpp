#include "jobs/stop_signal.h"

#include <csignal>

namespace lexring {
namespace {

constexpr int stop_signals[] = {SIGTERM, SIGINT, SIGUSR1};
volatile std::sig_atomic_t stop_received = 0;  // a handler can reach nothing else

extern "C" void remember_stop(int signal) {
  stop_received = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  stop_received = 0;
  for (const int signal : stop_signals) std::signal(signal, remember_stop);
}

StopSignal::~StopSignal() {
  for (const int signal : stop_signals) std::signal(signal, SIG_DFL);
}

bool StopSignal::received() const { return stop_received != 0; }

}  // namespace lexring
