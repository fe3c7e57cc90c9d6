#include "jobs/launch/stop_signal.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <initializer_list>

#include <pthread.h>
#include <unistd.h>

namespace lexring {
namespace {

// What signals do is the process's, whoever asks.
std::atomic<int> listeners = 0;
std::atomic<int> first_stop = 0;
sigset_t mask_at_start;

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

bool ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 &&
         action.sa_handler == SIG_IGN;
}

/// The wishes to stop. A blocked signal can be taken even where it is ignored.
sigset_t stop_signals() {
  sigset_t set = set_of({SIGTERM, SIGUSR1});
  for (const int signal : {SIGINT, SIGHUP}) {
    if (!ignored(signal)) sigaddset(&set, signal);
  }
  return set;
}

/// All but those of crashes, profilers and job control, which are the interrupted thread's or nobody's.
sigset_t signals_of_no_computing_thread() {
  sigset_t set;
  sigfillset(&set);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGPROF, SIGVTALRM, SIGTSTP,
                           SIGTTIN, SIGTTOU, SIGCONT})
    sigdelset(&set, signal);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) sigdelset(&set, signal);
  return set;
}

constexpr int private_wake = SIGURG;  // its default is to do nothing; from ~SignalThread only

}  // namespace

SignalThread::SignalThread() {
  const sigset_t blocked = signals_of_no_computing_thread();
  pthread_sigmask(SIG_BLOCK, &blocked, &mask_at_start);
  pthread_atfork(nullptr, nullptr, [] { pthread_sigmask(SIG_SETMASK, &mask_at_start, nullptr); });
  thread_ = std::thread([this] { run(); });
}

SignalThread::~SignalThread() {
  pthread_kill(thread_.native_handle(), private_wake);
  thread_.join();
}

void SignalThread::end_by(int signal) {
  std::signal(signal, SIG_DFL);
  const sigset_t set = set_of({signal});
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  std::raise(signal);
  for (;;) pause();
}

void SignalThread::run() {
  sigset_t taken = stop_signals();
  sigaddset(&taken, private_wake);
  sigset_t mask = taken;
  sigaddset(&mask, SIGPIPE);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);  // all others are open here: others' handlers run on this thread
  for (int signal = 0;;) {
    siginfo_t info{};
    signal = sigwaitinfo(&taken, &info);
    if (signal < 0) continue;
    if (signal != private_wake) take(signal);
    else if (info.si_code <= 0 && info.si_pid == getpid())  // sent by this process, not by the kernel
      return;
  }
}

void SignalThread::take(int signal) {
  int none = 0;
  if (listeners == 0) end_by(signal);
  first_stop.compare_exchange_strong(none, signal);
  if (signal != SIGTERM && signal != SIGINT) return;
  const auto now = Clock::now();
  if (first_hurry_ == Clock::time_point()) first_hurry_ = now;
  if (now - first_hurry_ >= std::chrono::seconds(1)) end_by(signal);
}

StopSignal::StopSignal() { ++listeners; }
StopSignal::~StopSignal() { --listeners; }
int StopSignal::number() const { return first_stop; }

}  // namespace lexring
