// `lexring verify` with files that are no golden files.
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
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

/// A case that asks for what is not there is named with the reason, and the others go on.
TEST_F(VerifyCommand, WhatACaseAsksForAndIsNotThereIsNotComputedWithout) {
  const std::string python = "/usr/bin/python3", copy = run("changed.h5"), code = run("change.py");
  if (run_process(python + " -c 'import h5py'").exit_code != 0)
    GTEST_SKIP() << "needs Debian's python3-h5py (apt install python3-h5py)";
  std::filesystem::create_directories(std::filesystem::path(code).parent_path());
  std::ofstream(code) << "import h5py, sys\na = h5py.File(sys.argv[1], 'a')['lex_everything'].attrs\n"
                         "assert sys.argv[2] in a['config']\n"
                         "a['config'] = a['config'].replace(sys.argv[2], sys.argv[3], 1)\n";
  const auto verdict = [&](const std::string& from, const std::string& to) {
    std::filesystem::copy_file(std::string(LEXRING_SOURCE) + "/tests/models/golden/lex_everything.h5", copy,
                               std::filesystem::copy_options::overwrite_existing);
    const auto changed = run_process(fmt::format("{} {} {} '{}' '{}'", python, code, copy, from, to));
    EXPECT_EQ(changed.exit_code, 0) << changed.output;
    return run_process(binary() + " verify --golden " + copy);
  };
  const auto unsupported = [&](const std::string& from, const std::string& to, const std::string& reason) {
    const ProcessResult result = verdict(from, to);
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_GE(occurrences(result.output, "0 passed, 0 failed, 1 not supported"), 1) << result.output;
    EXPECT_GE(occurrences(result.output, reason), 1) << result.output;
  };
  unsupported("\"vocab\"", "\"thinking\": 2, \"vocab\"", "thinking = 2 is not supported yet");
  unsupported("\"scaling\": \"none\"", "\"scaling\": \"cubic\"", "cubic");
  unsupported("\"kind\": \"xpos\"", "\"kind\": \"cape\"", "position.kind = 'cape' is not known; choose none");
  unsupported("\"normalizer\": \"softmax\"", "\"normalizer\": \"sparsemax\"",
              "attention.normalizer = 'sparsemax' is not known; choose softmax, relu");
  unsupported("\"norm_eps\": 0.01", "\"norm_eps\": \"small\"", "model.norm_eps = 'small' is not a number");
  unsupported("\"override\": {}", "\"override\": {\"one\": [{}, {}]}", "is overridden, which is no number");
  EXPECT_GE(occurrences(verdict("\"vocab\"", "\"vocab\"").output, "1 passed, 0 failed"), 1);
  const ProcessResult damaged = verdict("\"norm_eps\": 0.01, ", "");
  EXPECT_EQ(damaged.exit_code, 1) << damaged.output;
  EXPECT_GE(occurrences(damaged.output, "is this a golden file?"), 1) << damaged.output;
}

/// However coarse the precision: what a number moves by when weights are rounded is no excuse for another number.
TEST_F(VerifyCommand, AWrongGradientFailsInEveryPrecision) {
  const std::string python = "/usr/bin/python3", copy = run("wrong.h5");
  if (run_process(python + " -c 'import h5py'").exit_code != 0)
    GTEST_SKIP() << "needs Debian's python3-h5py (apt install python3-h5py)";
  std::filesystem::create_directories(std::filesystem::path(copy).parent_path());
  std::filesystem::copy_file(std::string(LEXRING_SOURCE) + "/tests/models/golden/lex_everything.h5", copy);
  const auto changed =
      run_process(python + " -c 'import h5py; h5py.File(\"" + copy +
                  "\", \"a\")[\"lex_everything/gradients/layers.0.attention.query.weight\"][...] *= 1.5'");
  ASSERT_EQ(changed.exit_code, 0) << changed.output;
  for (const char* how : {"reference --precision fp64", "cpu --precision fp32", "cpu --precision bf16"}) {
    const ProcessResult result = run_process(fmt::format("{} verify --golden {} --device {}", binary(), copy, how));
    EXPECT_EQ(result.exit_code, 1) << how << "\n" << result.output;
    EXPECT_GE(occurrences(result.output, "failed         (gradients/layers.0.attention.query.weight"), 1)
        << how << "\n"
        << result.output;
  }
}

TEST_F(VerifyCommand, WhatTheRunAsksForAndIsNotThereEndsIt) {
  expect_refusal("--device cpu --precision fp64", "precision fp64 is computed by the reference device only");
  expect_refusal("--device reference --precision bf16", "the reference device computes in fp32 and fp64");
  expect_refusal("--optimizer.shard state", "among the ranks of mesh.cp, of which this run has one");
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
