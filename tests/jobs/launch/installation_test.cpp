// What the binary says of itself, and what `cmake --install` puts under a prefix.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/process.h"

namespace lexring {
namespace {

namespace fs = std::filesystem;

void expect_matches(const std::string& text, const char* expression) {
  EXPECT_TRUE(std::regex_search(text, std::regex(expression))) << expression << " is not in:\n" << text;
}

TEST(Version, NamesCommitBackendsLibrariesAndTheProcessorsLevel) {
  const ProcessResult said = run_process(fmt::format("{} --version", LEXRING_BINARY));
  EXPECT_EQ(said.exit_code, 0);
  expect_matches(said.output, R"(^lexring [0-9]+\.[0-9]+\.[0-9]+\n)");
  expect_matches(said.output, R"(\ncommit +([0-9a-f]{12}(-dirty)?|unknown)\n)");
  expect_matches(said.output, R"(\nbuild +(Release|Debug|RelWithDebInfo), [A-Za-z]+ [0-9.]+, )");
  expect_matches(said.output, R"(\ncpu +(baseline|avx2|avx512|avx512_bf16) \(this processor has baseline)");
  expect_matches(said.output, R"(\ncuda +(not built in|[0-9.]+ for .*GPU))");
  expect_matches(said.output, R"(\nmpi +.*[0-9]+\.[0-9]+)");
  for (const char* library : {"oneDNN", "HDF5", "Boost", "fmt", "nlohmann_json", "simdjson", "zstd", "xxhash"})
    expect_matches(said.output, fmt::format(R"(\nlibraries .*{} [0-9]+\.)", library).c_str());
}

TEST(Installation, IsABinaryWithConfigurationsJobScriptsLicenceAndModule) {
  std::string prefix = (fs::temp_directory_path() / "lexring_installationXXXXXX").string();
  ASSERT_NE(mkdtemp(prefix.data()), nullptr);
  const ProcessResult installed =
      run_process(fmt::format("{} --install {} --prefix {}", LEXRING_CMAKE, LEXRING_BUILD, prefix));
  EXPECT_EQ(installed.exit_code, 0) << installed.output;
  const ProcessResult said = run_process(fmt::format("{}/bin/lexring --version", prefix));
  EXPECT_EQ(said.exit_code, 0) << said.output;
  for (const char* file :
       {"LICENSE", "README.md", "configs/quickstart.ini", "jobs/slurm/launch.sh", "jobs/slurm/pretrain.sbatch"})
    EXPECT_TRUE(fs::exists(fs::path(prefix) / "share/lexring" / file)) << file;
  const auto version = said.output.substr(8, said.output.find('\n') - 8);
  std::ifstream module_file(fs::path(prefix) / "share/lexring/modulefiles/lexring" / version);
  const std::string text(std::istreambuf_iterator<char>(module_file), {});
  EXPECT_EQ(text.rfind("#%Module", 0), 0U);
  expect_matches(text, ("LEXRING_BINARY +" + prefix + "/bin/lexring\n").c_str());
  expect_matches(text, ("LEXRING_HOME +" + prefix + "/share/lexring\n").c_str());
  fs::remove_all(prefix);
}

}  // namespace
}  // namespace lexring
