/// The files in and below a directory that are text, and what is left out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace lexring {

/// What was passed over: how much, and the first ten by name and reason ("notes/.git (hidden)").
struct LeftOut {
  std::int64_t count = 0;
  std::vector<std::string> examples;
  void add(const std::filesystem::path& path, const char* reason);
};

/// The files that are `known`, sorted by path. Links are followed, and every directory is read once. Hidden entries
/// (`._x.txt`, `.ipynb_checkpoints`) and what is unknown, no file or seen before is left out. Throws Error for a
/// directory that cannot be listed, by its own name; UsageError for a link to nothing whose name is known.
std::vector<std::filesystem::path> walk_directory(const std::filesystem::path& directory,
                                                  const std::function<bool(const std::filesystem::path&)>& known,
                                                  LeftOut& left_out);

}  // namespace lexring
