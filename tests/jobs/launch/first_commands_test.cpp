// The README's two commands as a new user gives them: in any order, again, with and without a GPU. Configuring is real;
// building, testing and training are stand-ins that write down how they were called.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/process.h"

namespace lexring {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

void write_program(const fs::path& path, const std::string& text) {
  write(path, "#!/usr/bin/env bash\nset -euo pipefail\n" + text);
  fs::permissions(path, fs::perms::owner_all);
}

/// A clone whose files are links, and programs in front of the real ones.
class FirstCommands : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "lexring_first_commandsXXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    ASSERT_EQ(run_process(fmt::format("mkdir {0}/clone && cd {0}/clone && for part in CMakeLists.txt CMakePresets.json "
                                      "LICENSE README.md configs datasets framework jobs models parallel tests; do cp "
                                      "-rs {1}/$part .; done; rm jobs/packages.sh",
                                      name, LEXRING_SOURCE))
                  .exit_code,
              0);
    write_program(clone() / "jobs/packages.sh", "");
    // Only building is not done.
    write_program(programs() / "cmake",
                  fmt::format("if [ \"$1\" = --build ]; then ln -sf {0}/programs/lexring build/release/lexring\n"
                              "else exec {1} \"$@\"; fi\n",
                              name, LEXRING_CMAKE));
    write_program(programs() / "ctest", "");
    write_program(programs() / "nvidia-smi", "exit 9\n");
    write_program(programs() / "mpirun", "while [ \"${1##*/}\" != lexring ]; do shift; done; exec \"$@\"\n");
    write_program(programs() / "lexring",
                  "case $1 in\n"
                  "  prepare) while [ \"$1\" != --output ]; do shift; done; touch \"$2\" ;;\n"
                  "  train) while [ \"$1\" != --checkpoint.directory ]; do shift; done; printf '[train]\\nlength = "
                  "256\\n' >\"$2/config.ini\" ;;\n"
                  "esac\n");
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path clone() const { return folder_ / "clone"; }
  fs::path programs() const { return folder_ / "programs"; }

  /// In the clone, as somebody who has no settings of their own.
  ProcessResult in_clone(const std::string& command) const {
    return run_process(fmt::format("cd {} && unset CI CUDAARCHS && export PATH={}:$PATH && {}", clone().string(),
                                   programs().string(), command),
                       900);
  }
  void expect_success(const std::string& command) const {
    const ProcessResult result = in_clone(command);
    EXPECT_EQ(result.exit_code, 0) << command << "\n" << result.output;
  }
  void expect_refusal(const std::string& arguments, const std::string& message) const {
    const ProcessResult result = in_clone("./jobs/quickstart.sh " + arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments << "\n" << result.output;
    EXPECT_NE(result.output.find(message), std::string::npos) << arguments << "\n" << result.output;
    EXPECT_FALSE(fs::exists(clone() / "build")) << arguments;
    EXPECT_FALSE(fs::exists(clone() / "runs")) << arguments;
  }
  bool cuda_is_built() const {
    return read(clone() / "build/release/build.ninja").find("backend/cuda/nvidia/backend.cpp") != std::string::npos;
  }
  bool tests_are_built() const {
    return read(clone() / "build/release/build.ninja").find("rules_test") != std::string::npos;
  }

  std::string text_ = "text.txt";
  fs::path folder_;
};

TEST_F(FirstCommands, TheQuickstartFirst) {
  write(clone() / text_, "one line of text");
  expect_success("./jobs/quickstart.sh " + text_);
  EXPECT_FALSE(tests_are_built());
  expect_success("./tests/run.sh");
  EXPECT_TRUE(tests_are_built());
  expect_success("./jobs/quickstart.sh " + text_);
  EXPECT_TRUE(tests_are_built());
}

TEST_F(FirstCommands, TestsFirstAfterABarePreset) {
  write(clone() / text_, "one line of text");
  expect_success("cmake --preset release");
  EXPECT_FALSE(cuda_is_built());
  expect_success("./tests/run.sh");
  expect_success("./jobs/quickstart.sh " + text_);
  EXPECT_TRUE(tests_are_built());
}

TEST_F(FirstCommands, AGpuComesAndGoes) {
  write(clone() / text_, "one line of text");
  write_program(programs() / "nvidia-smi", "echo 'GPU 0: one of ours (UUID: GPU-0)'\n");
  const bool nvcc = in_clone("command -v nvcc || test -x /usr/local/cuda/bin/nvcc").exit_code == 0;
  expect_success("./jobs/quickstart.sh " + text_);
  EXPECT_EQ(cuda_is_built(), nvcc);
  // CMake looks at this variable for a new build directory only.
  expect_success("CUDAARCHS=90a-real ./tests/run.sh");
  EXPECT_EQ(cuda_is_built(), nvcc);
  write_program(programs() / "nvidia-smi", "exit 9\n");
  expect_success("./tests/run.sh");
  EXPECT_FALSE(cuda_is_built());
  if (!nvcc) return;
  expect_success("cmake --preset release -DLEXRING_CUDA=ON && ./jobs/quickstart.sh " + text_);
  EXPECT_TRUE(cuda_is_built());
}

TEST_F(FirstCommands, OptionsAreCheckedBeforeAnyWork) {
  for (const char* option : {"--config", "--name", "--minutes", "--ranks"})
    expect_refusal(option, std::string(option) + " needs a value");
  for (const char* ranks : {"0", "-1", "two", "''"})
    expect_refusal(fmt::format("--ranks {}", ranks), "how many processes");
  for (const char* minutes : {"0", "0.0", "five", "-3"})
    expect_refusal(fmt::format("--minutes {}", minutes), "a number above 0");
  expect_refusal("--name ../elsewhere", "results are in runs/NAME");
  expect_refusal("--config absent.ini", "there is no file absent.ini");
  expect_refusal("absent.txt", "absent.txt does not exist");
  expect_refusal("--speed 3", "there is no option --speed");
  write(clone() / "empty/a.txt", "");
  write(clone() / "empty/.hidden.txt", "text");
  expect_refusal("empty", "no .txt, .md, .pod or .jsonl file");
}

TEST_F(FirstCommands, OneLineOfTextIsDividedBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 101; ++i) text += "ä";  // nine tenths end inside a character
  write(clone() / text_, text);
  expect_success("cmake --preset release -DLEXRING_TESTS=OFF && ./jobs/quickstart.sh " + text_);
  const std::string train = read(clone() / "runs/quickstart/text/train.txt"),
                    valid = read(clone() / "runs/quickstart/text/valid.txt");
  EXPECT_EQ(train + valid, text);
  EXPECT_EQ(train.size(), 180U);
}

TEST_F(FirstCommands, OneDocumentOfJsonIsDividedBetweenCharacters) {
  const std::string text = R"(nine tenths \"of\" it \\ ä € end here, before two halves of one: \ud83d\ude00\n)";
  write(clone() / "text.jsonl", R"({"meta": {"text": "short"}, "text" : ")" + text + "\"}\n");
  expect_success("cmake --preset release -DLEXRING_TESTS=OFF && ./jobs/quickstart.sh text.jsonl");
  const std::string train = read(clone() / "runs/quickstart/text/train.jsonl"),
                    valid = read(clone() / "runs/quickstart/text/valid.jsonl");
  const std::string begin = R"({"text":")", end = "\"}\n";
  ASSERT_GT(train.size(), begin.size() + end.size());
  ASSERT_GT(valid.size(), begin.size() + end.size());
  const auto inside = [&](const std::string& line) {
    return line.substr(begin.size(), line.size() - begin.size() - end.size());
  };
  EXPECT_EQ(train, begin + inside(train) + end);
  EXPECT_EQ(valid, begin + inside(valid) + end);
  EXPECT_EQ(inside(train) + inside(valid), text);
  EXPECT_EQ(inside(valid), R"(\ud83d\ude00\n)");
}

}  // namespace
}  // namespace lexring
