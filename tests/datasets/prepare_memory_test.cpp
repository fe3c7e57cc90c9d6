/// How much memory prepare() takes, and what it says when there is too little.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "datasets/prepare.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

PrepareOptions options_for(const TempDirectory& directory, const std::vector<std::string>& names) {
  PrepareOptions options;
  for (const auto& name : names) options.inputs.push_back((directory / name).string());
  options.output = directory / "out.h5";
  options.existing = Existing::replace;
  options.threads = 2;
  return options;
}

/// MiB that a process takes at most to run `body`, without what it inherits.
double peak_mib(const std::function<void()>& body) {
  const auto run = [](const std::function<void()>& work) {
    const auto child = ::fork();
    if (child == 0) {
      try {
        work();
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    rusage usage{};
    ::wait4(child, &status, 0, &usage);
    EXPECT_EQ(status, 0);
    return static_cast<double>(usage.ru_maxrss) / 1024;
  };
  return run(body) - run([] {});
}

TEST(PrepareMemory, DoesNotGrowWithTheCorpus) {
  if (sanitized) GTEST_SKIP() << "sanitizers keep freed and shadow memory: peaks say nothing under them";
  TempDirectory directory;
  {  // gone before the children begin, who inherit what we hold
    std::string lines, text;
    while (lines.size() < (8u << 20)) lines += json_line(std::string(5000, 'x'));
    while (text.size() < (64u << 20)) text += text.empty() ? "a line of a very long document\n" : text;
    write_file(directory / "a.jsonl", lines);
    write_file(directory / "b.txt", text);
  }
  // 80 and 64 MiB of text, twice that in tokens: whoever held either could not stay under the bound (some ten blocks in
  // the making: 40 MiB).
  EXPECT_LT(peak_mib([&] { prepare(options_for(directory, std::vector<std::string>(10, "a.jsonl"))); }), 64);
  EXPECT_LT(peak_mib([&] { prepare(options_for(directory, {"b.txt"})); }), 64);
}

/// What went wrong in a process that may take `mib` more than it inherits; with bad input to be skipped, which too
/// little memory is not.
std::string failure_with(int mib, PrepareOptions options) {
  options.bad_input = BadInput::skip;
  Child child([&](int) {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t bytes =
        pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + (static_cast<std::uint64_t>(mib) << 20);
    const rlimit limit{bytes, bytes};
    ::setrlimit(RLIMIT_AS, &limit);
    prepare(options);
  });
  return child.message();
}

class TooLittleMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    if (sanitized) GTEST_SKIP() << "sanitizers need terabytes of addresses";
    write_file(directory / "good.jsonl", json_line("good"));
  }
  /// The run ends, names file and cause, and leaves nothing.
  void expect_ends(int mib, const std::string& name, const std::string& doing) {
    const auto message = failure_with(mib, options_for(directory, {"good.jsonl", name}));
    expect_says(message, "not enough memory to " + doing, name, "nothing is wrong with the text", "ulimit -v");
    EXPECT_EQ(directory.names(), (std::vector<std::string>{"good.jsonl", name}));
  }
  TempDirectory directory;
};

TEST_F(TooLittleMemory, ForALongWindow) {
  // A frame that asks for a window of 1 GiB: magic number, descriptor, window 2^(10 + 20), one raw block, the last, of
  // 14 bytes.
  const std::string text = json_line("x");
  std::string frame = std::string("\x28\xb5\x2f\xfd\x00\xa0", 6);
  const auto block = static_cast<unsigned>(text.size() << 3 | 1);
  for (int i = 0; i < 3; ++i) frame.push_back(static_cast<char>(block >> 8 * i));
  write_file(directory / "long.jsonl.zst", frame + text);
  expect_ends(400, "long.jsonl.zst", "decompress");
  EXPECT_EQ(prepare(options_for(directory, {"long.jsonl.zst"})).documents, 1);
}

TEST_F(TooLittleMemory, ForALongLine) {
  write_file(directory / "line.jsonl", json_line(std::string(std::size_t{40} << 20, 'x')));
  expect_ends(200, "line.jsonl", "parse");
  EXPECT_EQ(prepare(options_for(directory, {"line.jsonl"})).documents, 1);
}

TEST_F(TooLittleMemory, ToReadALine) {
  write_file(directory / "line.jsonl", "");
  std::filesystem::resize_file(directory / "line.jsonl", std::uint64_t{1} << 33);  // a hole of 8 GiB
  expect_ends(200, "line.jsonl", "read");
}

TEST_F(TooLittleMemory, ForThreads) {
  auto options = options_for(directory, {"good.jsonl"});
  options.threads = 300;  // stacks of 8 MiB
  expect_says(failure_with(500, options), "cannot start 300 threads", "--threads");
}

TEST(PrepareMemory, OfALongLineIsAtMostThreeTimesItsSize) {
  if (sanitized) GTEST_SKIP() << "sanitizers keep freed and shadow memory: peaks say nothing under them";
  TempDirectory directory;
  constexpr std::size_t mib = 96;
  write_file(directory / "line.jsonl", "{\"text\": \"" + std::string(mib << 20, 'x') + "\"}\n");
  const auto one = peak_mib([&] { prepare(options_for(directory, {"line.jsonl"})); });
  EXPECT_LT(one, 3 * mib);
  // Many of them are held one at a time. Of the blocks in the making the allocator keeps some 70 MiB, now more, now
  // less.
  const auto many = peak_mib([&] { prepare(options_for(directory, {"line.jsonl", "line.jsonl", "line.jsonl"})); });
  EXPECT_LT(many, one + mib);
}

}  // namespace
}  // namespace lexring::testing
