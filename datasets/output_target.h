/// The file that a long work ends in, looked at before the work begins.
#pragma once

#include <filesystem>

namespace lexring {

enum class Existing { refuse, replace };

/// The directories of an output are made with it, and removed again if nothing is in them in the end.
class OutputTarget {
 public:
  /// Follows links: what is replaced in the end is the file that they lead to, on its own disk. Throws UsageError for a
  /// name that is empty or a directory's, for what exists and is no file (a device, a FIFO), for a link into a
  /// directory that does not exist (a disk that is not mounted), and for a file that exists, unless it may be replaced;
  /// Error where the directories cannot be made.
  OutputTarget(const std::filesystem::path& output, Existing existing);
  OutputTarget(const OutputTarget&) = delete;
  OutputTarget& operator=(const OutputTarget&) = delete;
  ~OutputTarget();

  const std::filesystem::path& path() const { return path_; }  ///< links followed

 private:
  void make_directories();

  std::filesystem::path path_;
  std::filesystem::path made_;  ///< the outermost directory that was not there before; empty: none
};

}  // namespace lexring
