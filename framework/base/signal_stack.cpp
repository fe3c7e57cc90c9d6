#include "framework/base/signal_stack.h"

#include <csignal>
#include <cstddef>
#include <memory>

#include <unistd.h>

namespace lexring {
namespace {

/// Room for a frame with all registers of the processor, and for a handler that prints a backtrace.
std::size_t stack_bytes() {
  const long frame = sysconf(_SC_MINSIGSTKSZ);
  return static_cast<std::size_t>(frame > 0 ? frame : MINSIGSTKSZ) + 128 * 1024;
}

class SignalStack {
 public:
  SignalStack() {
    stack_t present{};
    if (sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;  // somebody else's will do
    const std::size_t bytes = stack_bytes();
    memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    stack_t own{};
    own.ss_sp = memory_.get();
    own.ss_size = bytes;
    if (sigaltstack(&own, nullptr) != 0) memory_.reset();
  }
  SignalStack(const SignalStack&) = delete;
  SignalStack& operator=(const SignalStack&) = delete;
  ~SignalStack() {
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    if (memory_) sigaltstack(&none, nullptr);
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
};

}  // namespace

void use_signal_stack() { thread_local const SignalStack stack; }

void use_signal_stacks_in_loops() {
#ifdef _OPENMP
#pragma omp parallel
#endif
  use_signal_stack();
}

void move_handlers_to_signal_stacks() {
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    struct sigaction action {};
    if (sigaction(signal, nullptr, &action) != 0) continue;  // the C library's own
    const bool handled =
        (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
    if (!handled || (action.sa_flags & SA_ONSTACK) != 0) continue;
    action.sa_flags |= SA_ONSTACK;
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace lexring
