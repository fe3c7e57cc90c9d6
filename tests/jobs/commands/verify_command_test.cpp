// `lexring verify` with files that are no golden files.
#include <gtest/gtest.h>

#include "tests/jobs/job_fixture.h"

namespace lexring {
namespace {

class VerifyCommand : public JobTest {
 protected:
  static void expect_refusal(const std::string& keys, const std::string& message) {
    const ProcessResult result = run_process(binary() + " verify " + keys, 30);
    EXPECT_NE(result.exit_code, 0) << keys << "\n" << result.output;
    EXPECT_EQ(occurrences(result.output, "lexring: "), 1) << keys << "\n" << result.output;
    EXPECT_GE(occurrences(result.output, message), 1) << keys << "\n" << result.output;
  }
};

TEST_F(VerifyCommand, OtherFilesAreNamed) {
  expect_refusal("--golden " + data(), "has no golden cases");
  expect_refusal("--golden " + run("none.h5"), "does not exist");
  expect_refusal("--golden " + shared().string() + "/text.txt", "is not an HDF5 file");
  std::filesystem::create_directories(run("empty"));
  expect_refusal("--golden " + run("empty"), "is a directory without *.h5 files");
  expect_refusal("--only nothing_is_called_so", "no case in");
}

TEST_F(VerifyCommand, HelpNamesTheFilesThatAreThere) {
  const std::string help = run_process(binary() + " verify --help").output;
  for (const char* name : {"every_kind.h5", "lex_everything.h5"}) {
    EXPECT_GE(occurrences(help, name), 1) << help;
    EXPECT_TRUE(std::filesystem::exists(std::string(LEXRING_SOURCE) + "/tests/models/golden/" + name));
  }
}

/// A binary that was copied away finds no golden files, and says which to give.
TEST_F(VerifyCommand, ABinaryOnItsOwnSaysWhatToGive) {
  const std::string copy = run("lexring");
  std::filesystem::copy_file(binary(), copy);
  const ProcessResult result = run_process(copy + " verify");
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_GE(occurrences(result.output, "give --golden"), 1) << result.output;
  std::filesystem::create_directories(shared() / "bundle/bin");
  std::filesystem::create_directories(shared() / "bundle/golden");
  std::filesystem::copy_file(binary(), shared() / "bundle/bin/lexring");
  std::filesystem::copy_file(std::string(LEXRING_SOURCE) + "/tests/models/golden/lex_everything.h5",
                             shared() / "bundle/golden/a.h5");
  const ProcessResult bundled = run_process((shared() / "bundle/bin/lexring").string() + " verify");
  EXPECT_EQ(bundled.exit_code, 0) << bundled.output;
  EXPECT_GE(occurrences(bundled.output, "1 passed, 0 failed"), 1) << bundled.output;
}

}  // namespace
}  // namespace lexring
