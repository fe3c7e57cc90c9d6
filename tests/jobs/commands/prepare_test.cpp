/// `lexring prepare` as a person meets it: what it prints, its exit codes, a signal to the real process.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class PrepareCommand : public JobTest {
 protected:
  PrepareCommand() { std::filesystem::create_directories(run("d")); }
  std::string path(const std::string& name) const { return run("d") + "/" + name; }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path(name), std::ios::binary) << content;
    return path(name);
  }
  ProcessResult prepare(const std::string& arguments) const {
    return run_process(binary() + " prepare " + arguments + " --output " + path("out.h5"));
  }
  void expect_refused(const std::string& arguments, int exit_code, const std::string& words) const {
    const auto result = prepare(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.output;
    EXPECT_NE(result.output.find(words), std::string::npos) << result.output;
    EXPECT_FALSE(std::filesystem::exists(path("out.h5")));
    EXPECT_FALSE(std::filesystem::exists(path("out.h5.tokens.partial")));
  }
};

TEST_F(PrepareCommand, SaysWhatItDid) {
  const auto result = prepare("--input " + write("a.txt", "some text") + " " +
                              write("b.jsonl", "{\"text\": \"more\"}\n{\"text\": \"\"}\n"));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("2 documents, 15 tokens"), std::string::npos) << result.output;
  EXPECT_NE(result.output.find("left out: 1 document without text"), std::string::npos) << result.output;
  EXPECT_NE(run_process(binary() + " prepare --help").output.find("skip-bad"), std::string::npos);
}

TEST_F(PrepareCommand, WhatIsLeftOutOrReplacedIsListed) {
  write("a.jsonl", "{\"text\": \"\\ud800\"}\n");
  for (int i = 0; i < 12; ++i) write("picture" + std::to_string(i) + ".png", "");
  write("._a.txt", "not text");
  const auto result = prepare("--input " + run("d"));
  EXPECT_EQ(result.exit_code, 0) << result.output;
  for (const char* words : {"1 document, 4 tokens", "1 lone surrogate ", "left out: 13 entries", "._a.txt (hidden)\n",
                            "picture0.png (of no", "and 3 more"}) {
    EXPECT_NE(result.output.find(words), std::string::npos) << words << " in " << result.output;
  }
}

TEST_F(PrepareCommand, AnOutputIsReplacedOnlyWhenAskedTo) {
  const auto corpus = write("a.txt", "some text");
  ASSERT_EQ(prepare("--input " + corpus).exit_code, 0);
  const auto second = prepare("--input " + corpus);
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_NE(second.output.find("--overwrite"), std::string::npos) << second.output;
  EXPECT_EQ(prepare("--overwrite --input " + corpus).exit_code, 0);
}

TEST_F(PrepareCommand, ALockedDataSetIsNotDamaged) {
  ASSERT_EQ(prepare("--input " + write("a.txt", "some text")).exit_code, 0);
  const int file = ::open(path("out.h5").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(file, LOCK_EX), 0);
  const auto locked = run_process("HDF5_USE_FILE_LOCKING=TRUE " + binary() + " inspect " + path("out.h5"));
  EXPECT_EQ(locked.exit_code, 1);
  EXPECT_NE(locked.output.find("another program holds it locked"), std::string::npos) << locked.output;
  EXPECT_EQ(locked.output.find("damaged"), std::string::npos) << locked.output;
  EXPECT_EQ(run_process(binary() + " inspect " + path("out.h5")).exit_code,
            0);                          // we look at no locks of our own accord
  ASSERT_EQ(::flock(file, LOCK_SH), 0);  // a reader keeps nobody out
  EXPECT_EQ(run_process("HDF5_USE_FILE_LOCKING=TRUE " + binary() + " inspect " + path("out.h5")).exit_code, 0);
  ::close(file);
}

/// h5py locks what it opens: `r` for others' reading, `a` against it.
TEST_F(PrepareCommand, ADataSetThatPythonHasOpen) {
  const std::string python = "/usr/bin/python3";
  if (run_process(python + " -c 'import h5py'").exit_code != 0)
    GTEST_SKIP() << "needs Debian's python3-h5py (apt install python3-h5py)";
  ASSERT_EQ(prepare("--input " + write("a.txt", "some text")).exit_code, 0);
  const std::string held = write("held.py",
                                 "import h5py, subprocess, sys\nf = h5py.File(sys.argv[1], "
                                 "sys.argv[2])\nsys.exit(subprocess.call(sys.argv[3:]))\n");
  const auto inspect = [&](const std::string& mode) {
    return run_process("HDF5_USE_FILE_LOCKING=TRUE " + python + " " + held + " " + path("out.h5") + " " + mode + " " +
                       binary() + " inspect " + path("out.h5"));
  };
  EXPECT_EQ(inspect("r").exit_code, 0);
  const auto writing = inspect("a");
  EXPECT_EQ(writing.exit_code, 1) << writing.output;
  EXPECT_NE(writing.output.find("out.h5: another program holds it locked"), std::string::npos) << writing.output;
  EXPECT_EQ(run_process(binary() + " inspect " + path("out.h5") + " --verify").exit_code,
            0);  // closed again, it is as it was
}

TEST_F(PrepareCommand, WrongArguments) {
  expect_refused("", 2, "--input");
  expect_refused("--input " + path("nowhere.txt"), 2, "nowhere.txt");
  expect_refused("--inptu x.txt", 2, "input");
  expect_refused("--threads -1 --input " + write("a.txt", "x"), 2, "threads");
}

TEST_F(PrepareCommand, BadLinesAreNamedAndSkippedOnlyWhenAskedTo) {
  const auto broken = write("broken.jsonl", "{\"text\": \"good\"}\n{\"text\": \n"),
             latin = write("latin.txt", "one\ntwo \xe4\n");
  expect_refused("--input " + broken, 1, "broken.jsonl, line 2: broken JSON");
  expect_refused("--input " + latin, 1, "latin.txt, line 2 (byte 8)");
  const auto result = prepare("--skip-bad --input " + broken + " " + latin);
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("left out: 2 bad lines or files"), std::string::npos) << result.output;
}

TEST_F(PrepareCommand, Interrupted) {
  // A gigabyte of input: seconds of work, of which the signal comes in the first.
  const std::string line = "{\"text\": \"" + std::string(1000, 'x') + "\"}\n";
  std::string content, inputs;
  for (int i = 0; i < 16000; ++i) content += line;
  const auto corpus = write("long.jsonl", content);
  for (int i = 0; i < 64; ++i) inputs += " " + corpus;
  const auto result = run_process(binary() + " prepare --output " + path("out.h5") + " --input" + inputs +
                                  " & worker=$!; until [ -s " + path("out.h5.tokens.partial") +
                                  " ] || ! kill -0 $worker; do sleep 0.05; done; kill -TERM $worker; wait $worker");
  EXPECT_EQ(result.exit_code, 143) << result.output;
  EXPECT_NE(result.output.find("interrupted"), std::string::npos) << result.output;
  for (const auto& entry : std::filesystem::directory_iterator(run("d")))
    EXPECT_EQ(entry.path().filename(), "long.jsonl");
}

}  // namespace
}  // namespace lexring
