#include "tests/rules/source_tree.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

namespace lexring::testing {
namespace {

std::vector<std::string> includes_of(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("#include ", 0) != 0) continue;
    const std::string rest = line.substr(9);
    if (rest[0] == '"') result.push_back(rest.substr(1, rest.find('"', 1) - 1));
    if (rest[0] == '<') result.push_back(rest.substr(0, rest.find('>') + 1));
  }
  return result;
}

}  // namespace

std::string SourceFile::folder() const {
  return path.find('/') == std::string::npos ? "" : path.substr(0, path.find('/'));
}
std::string SourceFile::name() const { return std::filesystem::path(path).filename().string(); }
std::string SourceFile::extension() const { return std::filesystem::path(path).extension().string(); }

std::string strip(const std::string& text) {
  std::string code;
  std::size_t i = 0;
  const auto skip_to = [&](const std::string& end) {
    const std::size_t found = text.find(end, i);
    const std::size_t stop = found == std::string::npos ? text.size() : found;
    for (; i < stop; ++i) {
      if (text[i] == '\n') code += '\n';
    }
  };
  while (i < text.size()) {
    if (text.compare(i, 2, "//") == 0) {
      skip_to("\n");
    } else if (text.compare(i, 2, "/*") == 0) {
      skip_to("*/");
      i = std::min(i + 2, text.size());
    } else if (text.compare(i, 3, "R\"(") == 0) {
      skip_to(")\"");
      i = std::min(i + 2, text.size());
      code += "\"\"";
    } else if (text[i] == '"' && (i == 0 || text[i - 1] != '\'')) {
      for (++i; i < text.size() && text[i] != '"' && text[i] != '\n'; ++i) {
        if (text[i] == '\\') ++i;
      }
      ++i;
      code += "\"\"";
    } else {
      code += text[i++];
    }
  }
  return code;
}

std::vector<SourceFile> read_source_tree(const std::string& root) {
  namespace fs = std::filesystem;
  const std::set<std::string> outputs = {"build", "runs", "__pycache__"};
  std::vector<SourceFile> files;
  for (auto it = fs::recursive_directory_iterator(root); it != fs::recursive_directory_iterator(); ++it) {
    const std::string name = it->path().filename().string();
    if (it->is_directory() && (name[0] == '.' || outputs.count(name))) it.disable_recursion_pending();
    if (!it->is_regular_file() || name[0] == '.') continue;
    SourceFile file;
    file.path = fs::relative(it->path(), root).string();
    std::ifstream stream(it->path(), std::ios::binary);
    file.text.assign(std::istreambuf_iterator<char>(stream), {});
    if (file.is_cpp()) {
      file.code = strip(file.text);
      file.includes = includes_of(file.text);
    }
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(), [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

}  // namespace lexring::testing
