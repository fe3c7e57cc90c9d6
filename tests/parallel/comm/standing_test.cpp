#include "parallel/comm/watch/standing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

namespace lexring {
namespace {

using namespace std::chrono_literals;

/// The tests' own thread is the program's main one; another looks at it, as a watchdog does.
class Standing : public testing::Test {
 protected:
  Standing() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lexring-standing-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    pipe = directory_ / "pipe";
    EXPECT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  }
  ~Standing() override { std::filesystem::remove_all(directory_); }

  /// What is seen, at last, while this thread does `work`: until it is `expected`, but not for ever; then `release`
  /// lets the work end.
  static std::string seen(const std::string& expected, const std::function<void()>& work,
                          const std::function<void()>& release) {
    std::string found;
    std::thread watcher([&] {
      for (const auto until = std::chrono::steady_clock::now() + 30s;
           found != expected && std::chrono::steady_clock::now() < until; std::this_thread::sleep_for(1ms))
        found = describe_main_thread();
      release();
    });
    work();
    watcher.join();
    return found;
  }
  void read_pipe() const {
    const int file = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);  // does not wait for the other end
    char byte = 0;
    EXPECT_EQ(::read(file, &byte, 1), 1);
    ::close(file);
  }
  void write_pipe() const {
    const int file = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_EQ(::write(file, "a", 1), 1);
    done.wait(false);  // a pipe without an end forgets what is in it
    ::close(file);
  }
  void finish() {
    done = true;
    done.notify_all();
  }

  std::filesystem::path directory_, pipe;
  std::atomic<bool> done = false;
};

TEST_F(Standing, AtAFileThatCannotBeRead) {
  const std::string expected = "its main thread is in read of " + pipe.string();
  const auto work = [&] {
    read_pipe();
    finish();
  };
  EXPECT_EQ(seen(expected, work, [&] { write_pipe(); }), expected);
}

TEST_F(Standing, AtAFileThatCannotBeOpened) {
  const std::string expected = "its main thread is in open of " + pipe.string();
  const auto work = [&] { ::close(::open(pipe.c_str(), O_RDONLY | O_CLOEXEC)); };
  EXPECT_EQ(seen(expected, work, [&] { ::close(::open(pipe.c_str(), O_WRONLY | O_CLOEXEC)); }), expected);
}

TEST_F(Standing, Computing) {
  const std::string expected = "its main thread is running, so it computes or loops";
  const auto work = [&] {
    while (!done) {
    }
  };
  EXPECT_EQ(seen(expected, work, [&] { finish(); }), expected);
}

TEST_F(Standing, WaitingForAThreadAtAFile) {
  const std::string expected = "its main thread waits for another thread, which is in read of " + pipe.string();
  const auto work = [&] {
    std::thread reader([&] {
      read_pipe();
      finish();
    });
    reader.join();
  };
  EXPECT_EQ(seen(expected, work, [&] { write_pipe(); }), expected);
}

TEST_F(Standing, ALongPathIsShortenedToItsEnd) {
  const auto path = directory_ / fmt::format("{:a>200}z", "");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  const std::string expected = fmt::format("its main thread is in open of ...{:a>99}z", "");
  const auto work = [&] { ::close(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); };
  EXPECT_EQ(seen(expected, work, [&] { ::close(::open(path.c_str(), O_WRONLY | O_CLOEXEC)); }), expected);
}

}  // namespace
}  // namespace lexring
