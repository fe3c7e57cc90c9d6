/// A run's directory: config.ini (the full configuration), metrics.jsonl, step-*/ (checkpoints).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/io/file_lock.h"

namespace lexring {

/// A run's directory while the run writes to it, so that no second one does; the system lets go of it when the process
/// ends. For one rank only. When nothing was written until the end, because the run was refused, what was made here is
/// taken away again.
class RunLock {
 public:
  /// Makes the directory and sees that it can be written; throws Error naming it otherwise, and UsageError when another
  /// run holds it.
  explicit RunLock(const std::filesystem::path& run_directory);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();
  /// False where the file system knows no locks: there may be others then.
  bool held() const { return lock_ && lock_->held(); }

 private:
  void make_directories();
  void lock();
  void take_away() noexcept;

  std::filesystem::path directory_;          ///< canonical
  std::vector<std::filesystem::path> made_;  ///< directories, the innermost first
  std::optional<FileLock> lock_;
};

class RunDirectory {
 public:
  explicit RunDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config() const { return path_ / "config.ini"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  /// Copies config.ini to config.before-step-00000101.ini, `step` being the first that another one holds for; the
  /// copy's name.
  std::string keep_config(std::int64_t step) const;
  /// Replaces config.ini, by a rename: a reader sees the old or the new one.
  void write_config(const std::string& ini) const;

 private:
  std::filesystem::path path_;
};

}  // namespace lexring
