#include "datasets/output_target.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "datasets/prepare.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

namespace fs = std::filesystem;

class OutputTargets : public ::testing::Test {
 protected:
  OutputTargets() {
    write_file(directory / "corpus.jsonl", json_line("some text"));
    write_file(directory / "broken.jsonl", json_line("some text") + "{broken\n");
    options.inputs = {(directory / "corpus.jsonl").string()};
    options.threads = 1;
  }
  std::string refused(const fs::path& output) {
    options.output = output;
    const auto before = directory.names();
    const auto message = error_of([&] { prepare(options); });
    EXPECT_EQ(directory.names(), before);
    return message;
  }

  TempDirectory directory;
  PrepareOptions options;
};

TEST_F(OutputTargets, WhatIsNoFileIsRefused) {
  options.existing = Existing::replace;
  ASSERT_EQ(::mkfifo((directory / "pipe.h5").c_str(), 0600), 0);
  fs::create_directory(directory / "there");
  fs::create_symlink("there", directory / "link.h5");
  // A terminal of our own: its directory takes no other files, whatever the code under test would do as root (in /dev
  // it would replace the device).
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_TRUE(terminal >= 0 && ::grantpt(terminal) == 0 && ::unlockpt(terminal) == 0);
  const std::string device = ::ptsname(terminal);
  expect_says(refused(device), device + " is a device", "choose another name");
  ::close(terminal);
  expect_says(refused(directory / "pipe.h5"), "pipe.h5 is a pipe");
  expect_says(refused(directory / "there"), "names a directory", "there/train.h5");
  expect_says(refused(directory / "link.h5"), "names a directory");
  expect_says(refused((directory / "newdir").string() + "/"), "newdir/ names a directory", "newdir/train.h5");
}

TEST_F(OutputTargets, AFileIsReplacedOnlyWhenAskedTo) {
  write_file(directory / "out.h5", "the older dataset");
  expect_says(refused(directory / "out.h5"), "out.h5 exists", "--overwrite");
  EXPECT_EQ(read_file(directory / "out.h5"), "the older dataset");
  options.existing = Existing::replace;
  EXPECT_EQ(prepare(options).documents, 1);
  EXPECT_EQ(Dataset::open(directory / "out.h5").tokens(), 10);
}

TEST_F(OutputTargets, LinksAreFollowed) {
  TempDirectory disk;
  options.existing = Existing::replace;
  write_file(disk / "old.h5", "the older dataset");
  fs::create_symlink(disk / "old.h5", directory / "second.h5");
  fs::create_symlink("second.h5", directory / "first.h5");
  options.output = directory / "first.h5";
  prepare(options, [&](const PrepareProgress&) {
    EXPECT_TRUE(fs::exists(disk / "old.h5.tokens.partial"));
  });  // on the link's disk
  EXPECT_TRUE(fs::is_symlink(directory / "first.h5") && fs::is_symlink(directory / "second.h5"));
  EXPECT_EQ(Dataset::open(disk / "old.h5").tokens(), 10);
  EXPECT_EQ(disk.names(), std::vector<std::string>{"old.h5"});

  fs::create_symlink(disk / "new.h5", directory / "new.h5");
  options.output = directory / "new.h5";
  prepare(options);
  EXPECT_TRUE(fs::is_symlink(directory / "new.h5"));
  EXPECT_EQ(Dataset::open(disk / "new.h5").tokens(), 10);

  fs::create_symlink(disk / "not mounted" / "x.h5", directory / "away.h5");
  expect_says(refused(directory / "away.h5"), "away.h5 is a link to", "not mounted/x.h5", "mount its disk");
  EXPECT_FALSE(fs::exists(disk / "not mounted"));
  fs::create_symlink("round.h5", directory / "round.h5");
  expect_says(refused(directory / "round.h5"), "leads back to itself");
}

TEST_F(OutputTargets, NoDirectoryIsLeftByAFailure) {
  options.inputs = {(directory / "broken.jsonl").string()};
  expect_says(refused(directory / "new" / "deep" / "out.h5"), "broken JSON");
  fs::create_directory(directory / "old");
  expect_says(refused(directory / "old" / "new" / "out.h5"), "broken JSON");
  EXPECT_TRUE(fs::is_empty(directory / "old"));
  expect_says(refused(directory / "old" / "out.h5"), "broken JSON");
  expect_says(refused(directory / "corpus.jsonl" / "deep" / "out.h5"), "cannot make the directory");
  EXPECT_TRUE(fs::exists(directory / "corpus.jsonl"));
  expect_says(refused(directory / "new" / std::string(300, 'x') / "out.h5"), "cannot make the directory",
              "File name too long");
}

}  // namespace
}  // namespace lexring::testing
