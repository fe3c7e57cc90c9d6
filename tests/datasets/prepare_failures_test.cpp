/// What prepare() meets in the world: full disks, directories that may not be written to, signals. Each in a process of
/// its own where it must.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "datasets/prepare.h"
#include "framework/base/error.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

volatile std::sig_atomic_t stop_wished = 0;
extern "C" void wish_stop(int) { stop_wished = 1; }

class PrepareFailures : public ::testing::Test {
 protected:
  PrepareFailures() {
    std::string lines;
    for (int i = 0; i < 1000; ++i) lines += json_line(std::string(4095, 'x'));  // 4096 tokens, 8 KiB each
    write_file(directory / "corpus.jsonl", lines);
    options.inputs = {(directory / "corpus.jsonl").string()};
    options.output = directory / "out.h5";
    options.existing = Existing::replace;
    options.threads = 2;
  }
  /// Only the corpus, and what was there before.
  void expect_nothing_left(std::vector<std::string> names = {"corpus.jsonl"}) { EXPECT_EQ(directory.names(), names); }

  TempDirectory directory;
  PrepareOptions options;
};

TEST_F(PrepareFailures, NoSpaceLeft) {
  // The device that is always full, in the place of the spool: the write fails as on a full disk.
  std::filesystem::create_symlink("/dev/full", directory / "out.h5.tokens.partial");
  expect_says(error_of([&] { prepare(options); }), "out.h5.tokens.partial", "No space left on device",
              "free some space");
  expect_nothing_left();
}

TEST_F(PrepareFailures, FileSizeLimitWhileSpooling) {
  Child child([&](int) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    prepare(options);
  });
  expect_says(child.message(), "out.h5.tokens.partial", "File too large", "ulimit -f");
  expect_nothing_left();
}

TEST_F(PrepareFailures, FileSizeLimitWhileWritingHdf5) {
  Child child([&](int) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{8192000 + 100, 8192000 + 100};  // the spool fits, the file with its tables does not
    ::setrlimit(RLIMIT_FSIZE, &limit);
    prepare(options);
  });
  expect_says(child.message(), "out.h5.partial", "File too large");
  expect_nothing_left();
}

TEST_F(PrepareFailures, ReadOnlyDirectory) {
  std::filesystem::create_directory(directory / "locked");
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(directory / "locked", std::filesystem::perms(0555));
  Child child([&](int) {
    become_nobody();
    options.output = directory / "locked" / "out.h5";
    prepare(options);
  });
  expect_says(child.message(), "locked/out.h5", "Permission denied", "a directory that you may write to");
  std::filesystem::remove(directory / "locked");
  expect_nothing_left();
}

TEST_F(PrepareFailures, OutputsThatCannotBe) {
  const auto refused = [&](const std::filesystem::path& output) {
    options.output = output;
    return error_of([&] { prepare(options); });
  };
  expect_says(refused(""), "--output");
  expect_says(refused(directory.path()), "names a directory");
  expect_says(refused(directory / "corpus.jsonl"), "also an input");
  expect_says(refused(directory / "corpus.jsonl" / "out.h5"), "cannot make the directory", "Not a directory");
  expect_nothing_left();
  options.output = directory / "made" / "for" / "it" / "out.h5";
  EXPECT_EQ(prepare(options).documents, 1000);
}

TEST_F(PrepareFailures, NoTextAtAll) {
  write_file(directory / "corpus.jsonl", json_line("") + "\n");
  expect_says(error_of([&] { prepare(options); }), "no text", "corpus.jsonl", "1 empty");
  write_file(directory / "corpus.jsonl", "{broken\n");
  options.bad_input = BadInput::skip;
  expect_says(error_of([&] { prepare(options); }), "no text", "1 skipped (", "corpus.jsonl, line 1: broken JSON");
  expect_nothing_left();
}

TEST_F(PrepareFailures, InterruptedBySigterm) {
  write_file(options.output, "the older dataset");
  Child child([&](int pipe) {
    std::signal(SIGTERM, wish_stop);
    options.interrupted = [] { return stop_wished != 0; };
    bool begun = false;
    prepare(options, [&](const PrepareProgress& progress) {
      if (stop_wished != 0) fail("went on after the signal");
      if (progress.tokens > 0 && !begun && ::write(pipe, "b", 1) == 1) begun = true;
      if (begun) std::this_thread::sleep_for(std::chrono::milliseconds(200));  // a slow disk
    });
  });
  child.wait_for_byte();
  EXPECT_TRUE(std::filesystem::exists(directory / "out.h5.tokens.partial"));
  child.send(SIGTERM);
  expect_says(child.message(), "interrupted", "out.h5 was not written", "run the same command again");
  expect_nothing_left({"corpus.jsonl", "out.h5"});
  EXPECT_EQ(read_file(options.output), "the older dataset");
}

TEST_F(PrepareFailures, KilledLeavesNoFinalNameAndTheNextRunCleansUp) {
  {
    Child child([&](int pipe) {
      prepare(options, [&](const PrepareProgress& progress) {
        if (progress.tokens > 0 && ::write(pipe, "b", 1) == 1) std::this_thread::sleep_for(std::chrono::minutes(1));
      });
    });
    child.wait_for_byte();
    // Alive, it is not disturbed by a second one.
    expect_says(error_of([&] { prepare(options); }), "another `lexring prepare`");
    child.send(SIGKILL);
  }
  EXPECT_FALSE(std::filesystem::exists(options.output));
  EXPECT_TRUE(std::filesystem::exists(directory / "out.h5.tokens.partial"));
  write_file(directory / "out.h5.partial", "half of something");
  EXPECT_EQ(prepare(options).tokens, 4096000);
  EXPECT_EQ(Dataset::open(options.output).tokens(), 4096000);
  expect_nothing_left({"corpus.jsonl", "out.h5"});
}

}  // namespace
}  // namespace lexring::testing
