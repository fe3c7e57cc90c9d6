// The rules of the house that a machine can check. A rule that turns out wrong is changed here and in CONTRIBUTING.md,
// in one commit.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/rules/source_tree.h"

namespace lexring::testing {
namespace {

const std::vector<SourceFile>& tree() {
  static const std::vector<SourceFile> files = read_source_tree(LEXRING_SOURCE_DIR);
  return files;
}

/// What a top folder may include beside itself.
const std::map<std::string, std::set<std::string>> may_include = {
    {"framework", {}},
    {"parallel", {"framework"}},
    {"models", {"framework", "parallel"}},
    {"datasets", {"framework"}},
    {"jobs", {"framework", "parallel", "models", "datasets"}},
    {"tests", {"framework", "parallel", "models", "datasets", "jobs"}},
};

/// The order inside framework: a file includes its own layer and those before it. The first prefix that fits counts.
constexpr std::pair<const char*, int> framework_layers[] = {
    {"framework/base/", 0},
    {"framework/device/", 1},
    {"framework/tensor/", 2},
    {"framework/attention/form.", 3},
    {"framework/attention/rows.", 3},
    {"framework/attention/bias.", 3},
    {"framework/attention/call.", 3},
    {"framework/attention/tiling.", 3},
    {"framework/nn/parameter.", 3},
    {"framework/backend/", 4},
    {"framework/autograd/", 5},
    {"framework/attention/", 6},
    {"framework/ops/", 7},
    {"framework/nn/", 8},
    {"framework/optim/", 9},
    {"framework/io/", 10},
};

int framework_layer(const std::string& path) {
  for (const auto& [prefix, layer] : framework_layers) {
    if (path.rfind(prefix, 0) == 0) return layer;
  }
  return -1;
}

/// Headers of foreign libraries, and the only places that may include them.
const std::vector<std::pair<std::string, std::vector<std::string>>> foreign = {
    {"<mpi.h>", {"parallel/comm/host/mpi_call.h"}},
    {"parallel/comm/host/mpi_", {"parallel/comm/", "tests/support/host_facing.h", "tests/survival/faults.cpp"}},
    {"parallel/comm/host/progress.h", {"parallel/comm/"}},
    {"parallel/comm/host/transfer.h", {"parallel/comm/"}},
    {"parallel/comm/host/session.h", {"parallel/comm/", "tests/parallel/comm/"}},
    {"parallel/comm/watch/side_channel.h", {"parallel/comm/", "tests/parallel/comm/"}},
    {"parallel/comm/watch/watchdog.h", {"parallel/comm/", "jobs/main.cpp", "tests/"}},
    {"<nccl.h>", {"parallel/comm/gpu/nccl", "tests/support/fake_nccl.cpp"}},
    {"<cuda",
     {"framework/device/cuda/", "framework/backend/cuda/nvidia/", "parallel/comm/gpu/cuda_", "parallel/comm/gpu/nccl",
      "tests/support/fake_cuda.cpp"}},
    {"<cublas", {"framework/backend/cuda/nvidia/"}},
    {"<cudnn", {"framework/backend/cuda/nvidia/cudnn_attention.cpp"}},
    {"<nvtx3/", {"framework/device/cuda/trace.cpp"}},
    {"framework/device/cuda/",
     {"framework/device/cuda/", "framework/backend/cuda/nvidia/", "parallel/comm/gpu/cuda_", "parallel/comm/gpu/nccl",
      "tests/"}},
    {"framework/backend/cuda/nvidia/",
     {"framework/backend/cuda/nvidia/", "framework/backend/cuda/gpu.h", "framework/backend/cuda/hopper/instructions.h",
      "tests/speed/cudnn_graphs.cpp"}},
    {"<emulated_gpu.h>", {"framework/backend/cuda/gpu.h"}},
    {"<emulated_hopper.h>", {"framework/backend/cuda/hopper/instructions.h"}},
    {"<boost/context", {"tests/emulated_cuda/"}},
    {"parallel/comm/host/mpi.h", {"parallel/comm/", "jobs/main.cpp", "tests/"}},
    {"<hdf5", {"framework/io/", "tests/"}},
    {"<oneapi/dnnl", {"framework/backend/cpu/matmul.cpp"}},
    {"<pcre2.h>", {"datasets/tokenizers/split_pattern.cpp"}},
    {"<utf8proc.h>", {"datasets/tokenizers/unicode_form.cpp"}},
    {"<omp.h>", {"framework/base/parallel_for.h"}},
};

/// Matches of a pattern in code, as "path: match".
std::vector<std::string> matches(const std::string& pattern, const std::vector<std::string>& allowed = {}) {
  const std::regex expression(pattern);
  std::vector<std::string> result;
  for (const SourceFile& file : tree()) {
    if (std::any_of(allowed.begin(), allowed.end(), [&](const std::string& prefix) { return file.is(prefix); }))
      continue;
    for (std::sregex_iterator it(file.code.begin(), file.code.end(), expression), end; it != end; ++it)
      result.push_back(file.path + ": " + it->str());
  }
  return result;
}

std::string lines(const std::vector<std::string>& items) {
  std::string text;
  for (const auto& item : items) text += "\n  " + item;
  return text;
}
#define EXPECT_NONE(items, rule)                            \
  do {                                                      \
    const auto found_ = (items);                            \
    EXPECT_TRUE(found_.empty()) << (rule) << lines(found_); \
  } while (false)

TEST(Rules, TheTreeIsThere) { EXPECT_GT(tree().size(), 100U); }

TEST(Rules, StripTakesCommentsAndStringsAway) {
  EXPECT_EQ(strip("a // exit(1)\nb /* abort()\n */ c"), "a \nb \n c");
  EXPECT_EQ(strip("f(\"exit(1) \\\" \"); g('\"'); R\"(x\ny)\";"), "f(\"\"); g('\"'); \n\"\";");
}

TEST(Rules, FoldersIncludeOnlyWhatIsBelowThem) {
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    const auto rule = may_include.find(file.folder());
    if (!file.is_cpp()) continue;
    if (rule == may_include.end()) {
      wrong.push_back(file.path + " is in no folder of the design");
      continue;
    }
    for (const std::string& include : file.includes) {
      if (include[0] == '<') continue;
      const std::string folder = include.substr(0, include.find('/'));
      if (folder != file.folder() && !rule->second.count(folder)) wrong.push_back(file.path + " includes " + include);
      if (folder == "framework" && file.folder() == "framework" &&
          framework_layer(include) > framework_layer(file.path))
        wrong.push_back(file.path + " includes " + include + ", which comes after it");
      if (!std::filesystem::exists(std::filesystem::path(LEXRING_SOURCE_DIR) / include))
        wrong.push_back(file.path + " includes " + include + ", which is not a path from the root");
    }
    if (file.folder() == "framework" && framework_layer(file.path) < 0)
      wrong.push_back(file.path + " is in no layer of framework");
  }
  EXPECT_NONE(wrong, "framework <- parallel <- models <- jobs, framework <- datasets <- jobs");
}

/// Circles in "who needs whom", as "a -> b -> a"; one for each way back that a walk finds.
std::vector<std::string> circles(const std::map<std::string, std::set<std::string>>& needs) {
  std::vector<std::string> path, found;
  std::set<std::string> done;
  const std::function<void(const std::string&)> visit = [&](const std::string& node) {
    if (const auto seen = std::find(path.begin(), path.end(), node); seen != path.end()) {
      found.push_back(fmt::format("{} -> {}", fmt::join(seen, path.end(), " -> "), node));
      return;
    }
    const auto at = needs.find(node);
    if (at == needs.end() || !done.insert(node).second) return;
    path.push_back(node);
    for (const std::string& next : at->second) visit(next);
    path.pop_back();
  };
  for (const auto& [node, others] : needs) visit(node);
  return found;
}

TEST(Rules, CirclesAreFound) {
  EXPECT_EQ(circles({{"a", {"b", "c"}}, {"b", {"d"}}, {"c", {"d"}}}), std::vector<std::string>());
  EXPECT_EQ(circles({{"a", {"b"}}, {"b", {"c", "d"}}, {"c", {"b"}}, {"d", {"a"}}}),
            (std::vector<std::string>{"b -> c -> b", "a -> b -> d -> a"}));
}

/// A header and a source of one name are one: what either includes, both need.
TEST(Rules, FilesIncludeEachOtherInNoCircle) {
  const auto stem = [](const std::string& path) { return path.substr(0, path.rfind('.')); };
  std::map<std::string, std::set<std::string>> needs;
  for (const SourceFile& file : tree()) {
    for (const std::string& include : file.includes) {
      if (include[0] != '<' && stem(include) != stem(file.path)) needs[stem(file.path)].insert(stem(include));
    }
  }
  EXPECT_GT(needs.size(), 100U);
  EXPECT_NONE(circles(needs), "a file can be read, tested and changed before those that include it");
}

/// A stream of the library throws, ends the process or forgets what it lost, when a disk is full or a pipe closed.
TEST(Rules, WordsAndResultsGoThroughTheConsole) {
  EXPECT_NONE(matches(R"(\bfmt::print\b|\bstd(out|err)\b|\bstd::(cout|cerr|clog|printf|puts|putchar)\b)", {"tests/"}),
              "say and print_result of framework/base/console.h");
}

/// Two types of one name are one type to the linker, which takes either's destructor for both.
TEST(Rules, TypesOfANamespaceHaveNamesOfTheirOwn) {
  const std::regex form(
      R"((?:^|\n)(?:namespace ([\w:]+) \{|(?:class|struct|enum class) (\w+)(?: final)?(?: : [^;{]*)? *\{))");
  std::map<std::string, std::string> file_of;
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (file.extension() != ".h") continue;
    std::string space;
    for (std::sregex_iterator it(file.code.begin(), file.code.end(), form), end; it != end; ++it) {
      if ((*it)[1].matched) space = (*it)[1];
      if (!(*it)[2].matched) continue;
      const std::string name = space + "::" + it->str(2);
      const auto [known, is_new] = file_of.emplace(name, file.path);
      if (!is_new) wrong.push_back(name + " is in " + known->second + " and in " + file.path);
    }
  }
  EXPECT_GT(file_of.size(), 100U);
  EXPECT_NONE(wrong, "one definition of a type");
}

TEST(Rules, LinesOfCodeHaveAtMost120Columns) {
  const std::set<std::string> scripts = {".cmake", ".in", ".py", ".sbatch", ".sh"};
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (!file.is_cpp() && !scripts.count(file.extension()) && file.name() != "CMakeLists.txt") continue;
    std::istringstream text(file.text);
    std::string line;
    for (int number = 1; std::getline(text, line); ++number) {
      const auto follows = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; };  // in UTF-8
      if (std::count_if(line.begin(), line.end(), std::not_fn(follows)) > 120)
        wrong.push_back(fmt::format("{}:{}", file.path, number));
    }
  }
  EXPECT_NONE(
      wrong,
      "lines have at most 120 columns; .clang-format does it in C++, but for comments and strings; scripts, CMake "
      "and Python are wrapped by hand");
}

TEST(Rules, ForeignLibrariesStayInTheirRooms) {
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    for (const std::string& include : file.includes) {
      for (const auto& [prefix, places] : foreign) {
        if (include.rfind(prefix, 0) != 0) continue;
        if (std::none_of(places.begin(), places.end(), [&](const std::string& place) { return file.is(place); }))
          wrong.push_back(file.path + " includes " + include);
      }
    }
  }
  EXPECT_NONE(wrong, "a library is included by one place only");
  EXPECT_NONE(matches("MPI_COMM_WORLD", {"parallel/comm/host/mpi.cpp"}), "the world communicator lives in one file");
}

TEST(Rules, HeadersAreLight) {
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (file.extension() != ".h") continue;
    if (file.text.find("#pragma once") == std::string::npos) wrong.push_back(file.path + " has no #pragma once");
    if (file.text.rfind("///", 0) != 0) wrong.push_back(file.path + " does not begin with what it is (///)");
    if (file.is("tests/")) continue;
    for (const std::string& include : file.includes) {
      for (const char* heavy : {"<nlohmann", "<boost", "<simdjson", "<zstd", "<regex>", "<iostream>"}) {
        if (include.rfind(heavy, 0) == 0) wrong.push_back(file.path + " includes " + include);
      }
    }
  }
  EXPECT_NONE(wrong, "headers are the manual, and cheap to include");
}

TEST(Rules, NothingButMainEndsTheProcess) {
  EXPECT_NONE(matches(R"((^|[^\w.:>])(std::)?(exit|abort|_exit|_Exit|quick_exit|terminate|assert)\s*\()", {"tests/"}),
              "throw Error instead");
}

TEST(Rules, NoEnvironmentVariableIsASwitch) {
  EXPECT_NONE(matches(R"(\bgetenv\b)", {"jobs/main.cpp", "jobs/launch/nodes.cpp", "jobs/launch/progress_bar.cpp",
                                        "jobs/launch/wait_policy.cpp", "parallel/comm/host/mpi.cpp",
                                        "parallel/comm/host/open_mpi.cpp", "tests/"}),
              "what a run does stands in its configuration");
}

TEST(Rules, MacrosAreOnePerLibrary) {
  EXPECT_NONE(matches(R"(#define\s+(?!LEXRING_[A-Z0-9]+_CALL\b|LEXRING_UNROLL\w*|OMPI_SKIP_MPICXX\b)\w+)", {"tests/"}),
              "LEXRING_<LIBRARY>_CALL only, what a compiler's pragma needs, and what stands for CUDA's own words");
}

TEST(Rules, NamesAreSnakeCase) {
  const std::regex snake("[a-z0-9_]+(\\.[a-z0-9]+)?");
  const std::set<std::string> given = {"CMakeLists.txt",    "README.md", "CONTRIBUTING.md",
                                       "CMakePresets.json", "LICENSE",   "site.env.example"};
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    if (file.is("docs/") || given.count(file.name())) continue;
    if (!std::regex_match(file.name(), snake)) wrong.push_back(file.path);
    if (file.extension() == ".hpp" || file.extension() == ".cc" || file.extension() == ".hh" ||
        file.extension() == ".cuh")
      wrong.push_back(file.path);
  }
  EXPECT_NONE(wrong, "files are snake_case, .h, .cpp and .cu");
}

TEST(Rules, EveryTopFolderHasAReadme) {
  std::vector<std::string> missing;
  for (const char* folder : {"", "framework/", "parallel/", "models/", "datasets/", "configs/", "jobs/", "tests/"}) {
    const std::string path = std::string(folder) + "README.md";
    if (std::none_of(tree().begin(), tree().end(), [&](const SourceFile& file) { return file.path == path; }))
      missing.push_back(path);
  }
  EXPECT_NONE(missing, "what it owns, what it may include, what to touch to add something");
}

TEST(Rules, SourcesAreListedInCMake) {
  std::string cmake;
  std::vector<std::string> globs, unlisted;
  for (const SourceFile& file : tree()) {
    if (file.name() != "CMakeLists.txt" && file.extension() != ".cmake") continue;
    cmake += file.text;
    if (std::regex_search(file.text, std::regex("file\\s*\\(\\s*GLOB", std::regex::icase))) globs.push_back(file.path);
  }
  for (const SourceFile& file : tree()) {
    if (file.is_source() && cmake.find(file.name()) == std::string::npos) unlisted.push_back(file.path);
  }
  EXPECT_NONE(globs, "sources are listed, not globbed");
  EXPECT_NONE(unlisted, "no CMakeLists.txt names it");
}

TEST(Rules, NoPathOfSomebodysMachine) {
  // Written in pieces, so that this file does not break its own rule.
  const std::regex machine(fmt::format("(^|[^\\w.])/({}|{}|{}|{})/[a-z]",
                                       "wo"
                                       "rk",
                                       "ho"
                                       "me",
                                       "ro"
                                       "ot",
                                       "Us"
                                       "ers"));
  std::vector<std::string> wrong;
  for (const SourceFile& file : tree()) {
    for (std::sregex_iterator it(file.text.begin(), file.text.end(), machine), end; it != end; ++it)
      wrong.push_back(file.path + ": " + it->str());
  }
  EXPECT_NONE(wrong, "paths are relative to the source, or given by the caller");
}

}  // namespace
}  // namespace lexring::testing
