#include "jobs/launch/same_program.h"

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

TEST(LoadedBuilds, HaveTheProgramAndItsLibraries) {
  const auto builds = loaded_builds();
  ASSERT_TRUE(builds.contains(""));
  EXPECT_EQ(builds.at("").size(), 40U);  // SHA-1
  EXPECT_TRUE(builds.contains("libc.so.6"));
}

TEST(LoadedBuilds, OnlyLibrariesThatBothHaveCanDiffer) {
  const std::map<std::string, std::string> ours = {{"", "1"}, {"liba.so", "2"}, {"libb.so", "3"}};
  EXPECT_EQ(other_library(ours, ours), "");
  EXPECT_EQ(other_library(ours, {{"", "1"}, {"libb.so", "3"}, {"libc.so", "9"}}), "");
  EXPECT_EQ(other_library(ours, {{"", "1"}, {"liba.so", "2"}, {"libb.so", "4"}}), "libb.so");
}

class SameProgram : public JobTest {
 protected:
  /// This program with another build id.
  static std::string other_build() {
    const auto path = shared() / "lexring_of_another_build";
    std::ifstream stream(binary(), std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(stream), {});
    const std::string note("\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0", 16);
    const auto at = bytes.find(note);
    EXPECT_NE(at, std::string::npos);
    bytes[at + note.size()] ^= 1;
    std::ofstream(path, std::ios::binary) << bytes;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path.string();
  }
};

TEST_F(SameProgram, ARankOfAnotherBuildIsRefusedAndNamed) {
  const std::string command = train("r", "--train.steps 2 --mesh.dp 3");
  const std::string keys = command.substr(binary().size());
  const std::string said = expect_refused(mpirun(2) + command + " : -n 1 " + other_build() + keys, "rank 2 on ");
  EXPECT_EQ(occurrences(said, "runs another build of lexring than rank 0 on "), 1) << said;
  EXPECT_EQ(run_process(mpirun(2) + command + " : -n 1 " + command).exit_code, 0);
}

}  // namespace
}  // namespace lexring
