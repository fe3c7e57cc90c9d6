/// The file of finished parts: exact numbers, torn and damaged lines, other evaluations, two at once, a full disk.
#include "jobs/evaluation/parts_file.h"

#include <csignal>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "jobs/evaluation/kept_parts.h"
#include "jobs/evaluation/output.h"
#include "parallel/comm/communicator.h"
#include "tests/datasets/support.h"

namespace lexring::testing {
namespace {

const Asked asked = {{"version", "1"}, {"lengths", "32,64"}};
const Asked other = {{"version", "1"}, {"lengths", "32"}, {"chunk", "64"}};

class Parts : public ::testing::Test {
 protected:
  TempDirectory directory_;
  const std::filesystem::path path_ = directory_.path();
  const std::filesystem::path file_ = directory_ / PartsFile::name;

  PartsFile open(const Asked& what = asked, PartsThere there = PartsThere::go_on) {
    return {path_, what, "lexring evaluate", there};
  }
  /// Keeps parts of windows [0, 1), [1, 2), ...
  void keep(int parts) {
    PartsFile file = open();
    for (int i = 0; i < parts; ++i) file.add({"cell", i, i + 1, {0.1 * i}, {i}});
  }
  std::string text() const {
    std::ifstream stream(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  void write(const std::string& text) const { std::ofstream(file_, std::ios::binary) << text; }
};

TEST_F(Parts, ComeBackAsTheSameBits) {
  using Limits = std::numeric_limits<double>;
  const Part part{"series 0, \"x\"",
                  3,
                  7,
                  {0.1, -0.0, 3, 1e300 / 7, Limits::denorm_min(), Limits::infinity(), -Limits::infinity()},
                  {std::int64_t{1} << 62, -1, 0}};
  const std::vector<Part> back = parts_of(line_of(part) + "\n");
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0], part);
  EXPECT_TRUE(std::signbit(back[0].numbers[1]));
  EXPECT_TRUE(std::isnan(parts_of(line_of({"", 0, 1, {Limits::quiet_NaN()}, {}}) + "\n").at(0).numbers[0]));
}

TEST_F(Parts, AreThereForTheSameEvaluationOnly) {
  keep(3);
  EXPECT_TRUE(PartsFile::holds(path_, asked));
  EXPECT_FALSE(PartsFile::holds(path_, other));
  EXPECT_EQ(open().parts().size(), 3u);
  const std::string before = text(), refusal = error_of([&] { open(other); });
  expect_says(refusal, "3 parts of another evaluation", "lengths = 32, there 32,64; chunk = 64, there none",
              "--overwrite");
  EXPECT_EQ(text(), before);
  EXPECT_EQ(open(other, PartsThere::take).parts().size(), 0u);
  EXPECT_FALSE(std::filesystem::exists(file_)) << "a file without parts is taken away";
  keep(3);
  EXPECT_EQ(open(asked, PartsThere::take).parts().size(), 3u);
  EXPECT_EQ(open(asked, PartsThere::discard).parts().size(), 0u);
}

TEST_F(Parts, ATornOrDamagedLineEndsThem) {
  keep(3);
  const std::string whole = text();
  const auto last = whole.rfind('\n', whole.size() - 2) + 1;
  for (const std::size_t size : {last + 1, last + 30, whole.size() - 1}) {
    write(whole.substr(0, size));
    EXPECT_EQ(open().parts().size(), 2u) << size;
    EXPECT_EQ(text(), whole.substr(0, last)) << "what follows must begin a line";
  }
  std::string damaged = whole;
  damaged[last - 20] ^= 1;
  write(damaged);
  EXPECT_EQ(open().parts().size(), 1u);
  // Without its first line it is of no evaluation.
  for (const std::string& lost : {whole.substr(0, 40), std::string(100, '\0'), std::string()}) {
    write(lost);
    EXPECT_FALSE(PartsFile::holds(path_, asked));
    PartsFile file = open();
    EXPECT_TRUE(file.parts().empty());
    file.add({"cell", 0, 1, {}, {}});
    EXPECT_TRUE(PartsFile::holds(path_, asked));
  }
}

TEST_F(Parts, OneEvaluationAtATime) {
  std::optional<PartsFile> first(std::in_place, path_, asked, "", PartsThere::go_on);
  first->add({"cell", 0, 1, {}, {}});
  for (const PartsThere there : {PartsThere::go_on, PartsThere::take, PartsThere::discard})
    expect_says(error_of([&] { open(asked, there); }), "another lexring evaluates into");
  first.reset();
  EXPECT_EQ(open().parts().size(), 1u);
}

TEST_F(Parts, AFullDiskLosesNoWork) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  PartsFile file = open();
  file.add({"cell", 0, 1, {1}, {}});
  const std::size_t size = text().size();
  const rlimit full{size + 10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  file.add({"cell", 1, 2, {2}, {}});
  file.add({"cell", 2, 3, {3}, {}});
  EXPECT_FALSE(file.sync());
  EXPECT_EQ(text().size(), size) << "no half line";
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  file.add({"cell", 3, 4, {4}, {}});
  EXPECT_TRUE(file.sync());
  const std::string all = text();
  EXPECT_EQ(parts_of(all.substr(all.find('\n') + 1)).size(), 4u);
}

TEST_F(Parts, ThoseBehindAGapDoNotCount) {
  PartsFile file = open();
  for (const auto& [first, last] : {std::pair(0, 4), std::pair(4, 6), std::pair(8, 9)})
    file.add({"cell", first, last, {}, {}});
  const auto world = make_self_communicator();
  const KeptParts parts(*world, &file);
  EXPECT_EQ(parts.reach("cell"), 6);
  EXPECT_EQ(parts.of("cell").size(), 2u);
  EXPECT_EQ(parts.reach("another"), 0);
}

TEST_F(Parts, OutputIsReplacedWhereItsOwnPartsAre) {
  write_file(directory_ / "results.json", "old");
  const auto output = [&](const Asked& what, Existing existing) {
    EvaluationOutput(path_, {"results.json"}, what, "", existing, PartsThere::go_on).finish({{"results.json", "new"}});
  };
  expect_says(error_of([&] { output(asked, Existing::refuse); }), "holds an evaluation already");
  keep(1);
  expect_says(error_of([&] { output(other, Existing::refuse); }), "holds an evaluation already");
  output(asked, Existing::refuse);
  std::ifstream stream(directory_ / "results.json");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(stream), {}), "new");
  EXPECT_FALSE(std::filesystem::exists(file_));
}

}  // namespace
}  // namespace lexring::testing
