#include "datasets/directory_walk.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "datasets/sources.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sorted_entries(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) entries.push_back(entry->path());
  require(!error, "cannot list the directory {}: {}; make it readable, or name what else is to be read with --input",
          directory.string(), error.message());
  std::sort(entries.begin(),
            entries.end());  // so that which of two links to a directory counts does not depend on the disk
  return entries;
}

class Walk {
 public:
  Walk(const std::function<bool(const fs::path&)>& known, LeftOut& left_out) : known_(known), left_out_(left_out) {}

  void enter(const fs::path& directory) {
    if (!visited_.insert(fs::weakly_canonical(directory)).second)
      return left_out_.add(directory, "a link to what is read under another name");
    for (const auto& path : sorted_entries(directory)) visit(path);
  }
  std::vector<fs::path> files;

 private:
  void visit(const fs::path& path) {
    if (path.filename().string().starts_with('.')) return left_out_.add(path, "hidden");
    std::error_code error;
    const auto status = fs::status(path, error);
    if (fs::is_directory(status)) return enter(path);
    if (fs::is_regular_file(status))
      return known_(path) ? files.push_back(path) : left_out_.add(path, "of no known kind");
    if (fs::exists(status)) return left_out_.add(path, "no file");
    std::error_code ignored;
    require(fs::is_symlink(fs::symlink_status(path, ignored)), "cannot read {}: {}", path.string(), error.message());
    require_usage(!known_(path), "{} is a link to nothing; mend or remove it", path.string());
    left_out_.add(path, "a link to nothing");
  }

  const std::function<bool(const fs::path&)>& known_;
  LeftOut& left_out_;
  std::set<fs::path> visited_;
};

}  // namespace

void LeftOut::add(const fs::path& path, const char* reason) {
  if (++count <= 10) examples.push_back(printable(path.string()) + " (" + reason + ")");
}

std::vector<fs::path> walk_directory(const fs::path& directory, const std::function<bool(const fs::path&)>& known,
                                     LeftOut& left_out) {
  Walk walk(known, left_out);
  walk.enter(directory);
  return std::move(walk.files);
}

}  // namespace lexring
