/// Locks on files: our own, and those of other programs.
#pragma once

#include <filesystem>

namespace lexring {

/// Keeps a second process from what one works at: a file that is open and locked here. The system lets go of it when
/// the process ends, however it does.
class FileLock {
 public:
  /// Opens the file, which is made where it is missing, and locks it. Does not wait; where it cannot, `descriptor` or
  /// `held` says so.
  explicit FileLock(const std::filesystem::path& path);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

  bool held() const { return held_; }
  /// Another process has it. Neither held nor taken: the file cannot be opened, or there are no locks on its file
  /// system, and nobody knows.
  bool taken() const { return taken_; }
  bool made() const { return made_; }  ///< the file was not there before
  /// Of the open file, for reading and writing; -1: taken, or it cannot be opened, for which `error` is the reason.
  int descriptor() const { return file_; }
  int error() const { return error_; }

 private:
  int file_ = -1;
  int error_ = 0;
  bool held_ = false, taken_ = false, made_ = false;
};

/// Whether another program holds the file locked, as HDF5 does with every file that it has open for writing; false
/// where nobody can know, e.g. on a file system without locks. It takes a moment's shared lock, so ask only when
/// something is wrong with the file already: on some networks a lock takes long.
bool locked_by_another(const std::filesystem::path& path);

}  // namespace lexring
