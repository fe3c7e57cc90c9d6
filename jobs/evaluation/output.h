/// The directory an evaluation writes to.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "datasets/output_target.h"
#include "jobs/evaluation/parts_file.h"

namespace lexring {

class OutputDirectory {
 public:
  /// Makes the directory where it is missing and sees that `names` can be written there: what an evaluation took
  /// minutes to find must not be lost for a directory. Throws UsageError or Error naming it, also where one of `names`
  /// is there already and is not to be replaced.
  OutputDirectory(std::filesystem::path path, const std::vector<std::string>& names, Existing existing);
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  ~OutputDirectory();  ///< a directory that was made here and stayed empty is removed
  /// Writes a temporary file and renames it: a reader sees the old file or the new one. Throws Error when it cannot.
  void write(const std::string& name, const std::string& text) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  bool made_ = false;
};

/// What an evaluation leaves: its parts while it is at work, its results in the end.
class EvaluationOutput {
 public:
  /// As OutputDirectory and PartsFile. Results that are there belong to an unfinished evaluation that is to replace
  /// them, where its parts are there too.
  EvaluationOutput(const std::filesystem::path& path, const std::vector<std::string>& names, const Asked& asked,
                   const std::string& command, Existing existing, PartsThere there);

  PartsFile& parts() { return parts_; }
  const std::filesystem::path& path() const { return directory_.path(); }
  /// Writes the files with these names and texts, and takes the parts away.
  void finish(const std::vector<std::pair<std::string, std::string>>& files);

 private:
  OutputDirectory directory_;
  PartsFile parts_;
};

}  // namespace lexring
