/// A run's directory: config.ini (the full configuration), metrics.jsonl, step-*/ (checkpoints).
#pragma once

#include <filesystem>
#include <string>

namespace lexring {

/// Held while a run writes to its directory, so that no second one does; the system lets go of it when the process ends. For one rank only.
class RunLock {
 public:
  /// Throws UsageError when another run holds it. Where a file system knows no locks, there is none.
  explicit RunLock(const std::filesystem::path& run_directory);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

 private:
  int file_;
};

class RunDirectory {
 public:
  /// Makes the directory and sees that it can be written; throws Error naming it otherwise. For one rank only.
  static void prepare(const std::filesystem::path& path);

  explicit RunDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config() const { return path_ / "config.ini"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  /// Replaces config.ini, by a rename: a reader sees the old or the new one.
  void write_config(const std::string& ini) const;

 private:
  std::filesystem::path path_;
};

}  // namespace lexring
