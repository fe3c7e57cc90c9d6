// Precompiled headers are in every file; each still includes what it uses of them, itself or through the repository's
// headers, so that it compiles without: with clang's tools, in the debug preset, and by nvcc.
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/rules/source_tree.h"

namespace lexring::testing {
namespace {

/// What is used, and the headers of which one must be included. Names that nearly every other standard header brings
/// along are left out.
struct Use {
  std::regex code;
  std::vector<std::string> headers;
};
const std::vector<Use>& uses() {
  static const std::vector<Use> table = {
      {std::regex(R"(\bstd::(sort|(any|all|none)_of|(find|count)_if|(min|max)_element|copy(_n)?|fill(_n)?)\()"
                  R"(|\bstd::(reverse|rotate|transform|(lower|upper)_bound)\()"),
       {"<algorithm>"}},
      {std::regex(R"(\bstd::array<)"), {"<array>"}},
      {std::regex(R"(\bstd::(sqrt|exp|log|pow|isfinite|isnan|isinf|floor|ceil|lround|cos|sin|tanh)\()"), {"<cmath>"}},
      {std::regex(R"(\bstd::mem(cpy|set|cmp|move)\()"), {"<cstring>"}},
      {std::regex(R"(\bstd::filesystem\b)"), {"<filesystem>"}},
      {std::regex(R"(\bstd::[io]?fstream\b)"), {"<fstream>"}},
      {std::regex(R"(\bstd::function<)"), {"<functional>"}},
      {std::regex(R"(\bstd::numeric_limits<)"), {"<limits>"}},
      {std::regex(R"(\bstd::map<)"), {"<map>"}},
      {std::regex(R"(\bstd::(unique_ptr|shared_ptr|make_unique|make_shared)<)"), {"<memory>"}},
      {std::regex(R"(\bstd::(accumulate|iota|gcd|lcm|inner_product)\()"), {"<numeric>"}},
      {std::regex(R"(\bstd::optional<)"), {"<optional>"}},
      {std::regex(R"(\bstd::span\b)"), {"<span>"}},
      {std::regex(R"(\bstd::string_view\b)"), {"<string_view>"}},
      {std::regex(R"(\bstd::vector<)"), {"<vector>"}},
      {std::regex(R"(\bfmt::(format|print)\()"), {"<fmt/format.h>", "<fmt/core.h>", "<fmt/ranges.h>"}},
      {std::regex(R"(\bTEST(_F|_P)?\()"), {"<gtest/gtest.h>"}},
  };
  return table;
}

using Files = std::map<std::string, const SourceFile*>;

void reach(const Files& files, const SourceFile& file, std::set<std::string>& reached) {
  for (const std::string& include : file.includes) {
    const auto next = files.find(include);
    if (reached.insert(include).second && next != files.end()) reach(files, *next->second, reached);
  }
}

TEST(Precompiled, EveryFileIncludesWhatItUses) {
  const std::vector<SourceFile> tree = read_source_tree(LEXRING_SOURCE_DIR);
  Files files;
  for (const SourceFile& file : tree) files[file.path] = &file;
  std::string wrong;
  int checked = 0;
  for (const SourceFile& file : tree) {
    if (!file.is_cpp() || file.extension() == ".cu") continue;
    std::set<std::string> reached;
    reach(files, file, reached);
    for (const Use& use : uses()) {
      if (!std::regex_search(file.code, use.code)) continue;
      ++checked;
      bool found = false;
      for (const std::string& header : use.headers) found = found || reached.count(header) > 0;
      if (!found) wrong += "\n  " + file.path + " uses " + use.headers[0];
    }
  }
  EXPECT_GT(checked, 1000);
  EXPECT_EQ(wrong, "") << "without including it";
}

}  // namespace
}  // namespace lexring::testing
