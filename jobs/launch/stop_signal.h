/// Signals: one thread of our own takes them, and no handler of ours exists.
///
/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 are wishes to stop. While a StopSignal lives the first is remembered, for who
/// asks for it to end in order; without one it ends the process at once. A second SIGTERM or SIGINT, a second or more
/// after the first of these two, ends the process at once in any case (within a second it is the same wish, sent twice:
/// by a launcher and by its terminal, say); SIGUSR1 and SIGHUP never do. So Slurm's `--signal=USR1` is not hurried by
/// the SIGTERM of the time limit. SIGPIPE is an error of the write that caused it.
#pragma once

#include <chrono>
#include <thread>

namespace lexring {

/// Takes the process's signals from its construction on. Made at the start of main, before any library starts a thread;
/// one per process.
///
/// Threads that are started afterwards block these signals, and every other one that a library may handle (SIGCHLD,
/// SIGUSR2, ...), which then run on this thread: a handler must not run on one that computes
/// (framework/base/signal_stack.h). Open everywhere are the signals of crashes, of profilers and of job control. SIGHUP
/// and SIGINT stay ignored where they were when the process started (`nohup`). A child process has the mask with which
/// this one began.
class SignalThread {
 public:
  SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;
  ~SignalThread();

  /// Ends this process as `signal` ends programs that do not know it: the caller of a shell's loop sees why, and ends
  /// too.
  [[noreturn]] static void end_by(int signal);

 private:
  using Clock = std::chrono::steady_clock;
  void run();
  void take(int signal);

  Clock::time_point first_hurry_;  ///< SIGTERM or SIGINT, whichever came first; the thread's alone
  std::thread thread_;
};

/// While one lives, a stop is remembered and does not end the process. Any number at a time, anywhere.
class StopSignal {
 public:
  StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  ~StopSignal();
  bool received() const { return number() != 0; }
  /// The first signal that asked this process to stop; 0: none has.
  int number() const;
};

}  // namespace lexring
