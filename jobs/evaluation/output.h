/// The directory an evaluation writes to.
#pragma once

#include <filesystem>
#include <string>

namespace lexring {

class OutputDirectory {
 public:
  /// Makes the directory where it is missing and sees that a file can be written there: what an evaluation took minutes to find must not be
  /// lost for a directory. Throws UsageError or Error naming it.
  explicit OutputDirectory(std::filesystem::path path);
  /// Writes a temporary file and renames it: a reader sees the old file or the new one. Throws Error when it cannot.
  void write(const std::string& name, const std::string& text) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lexring
