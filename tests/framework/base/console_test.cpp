/// What is said where standard streams are closed, or taken bit by bit. Each in a process of its own.
#include "framework/base/console.h"

#include <cerrno>
#include <exception>
#include <functional>
#include <string>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace lexring {
namespace {

/// The exit code of a process that does `work`.
int exit_code_of(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Console, NoFileGetsTheNumberOfAStandardStreamThatIsClosed) {
  for (const bool all : {true, false}) {
    EXPECT_EQ(exit_code_of([&] {
                for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
                  if (all || stream == STDERR_FILENO) close(stream);
                }
                open_standard_streams();
                if (open("/dev/null", O_RDWR) <= STDERR_FILENO) return 1;
                if (write(STDERR_FILENO, "x", 1) != 1) return 2;  // what libraries say goes nowhere
                char byte = 0;
                if (all && read(STDIN_FILENO, &byte, 1) != 0) return 3;
                if (all && (write(STDOUT_FILENO, "x", 1) != -1 || errno != EBADF))
                  return 4;  // a result that is lost is an error
                return 0;
              }),
              0)
        << all;
  }
}

/// Another program that shares our pipe or terminal may have made it non-blocking.
TEST(Console, AFullPipeThatDoesNotBlockIsWaitedFor) {
  int pipe[2];
  ASSERT_EQ(pipe2(pipe, O_NONBLOCK | O_CLOEXEC), 0);
  const std::string text(1 << 20, 'x');
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe[1], STDOUT_FILENO);
    try {
      print_result_text(text);
    } catch (const std::exception&) {
      _exit(1);
    }
    _exit(0);
  }
  close(pipe[1]);
  int status = 0;
  std::size_t taken = 0;
  bool ended = false;
  // Read only when it is full, or at the end.
  for (std::string room(1 << 16, 0); !ended;) {
    int held = 0;
    ended = waitpid(child, &status, WNOHANG) == child;
    if (!ended && (ioctl(pipe[0], FIONREAD, &held) != 0 || held < fcntl(pipe[0], F_GETPIPE_SZ))) {
      usleep(1000);
      continue;
    }
    for (ssize_t got = 0; (got = read(pipe[0], room.data(), room.size())) > 0;) taken += static_cast<std::size_t>(got);
  }
  close(pipe[0]);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(taken, text.size());
}

}  // namespace
}  // namespace lexring
