#include "framework/io/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace lexring {

FileLock::FileLock(const std::filesystem::path& path) {
  for (;;) {
    std::error_code error;
    made_ = !std::filesystem::exists(path, error);
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    error_ = file_ < 0 ? errno : 0;
    if (file_ < 0) return;
    held_ = ::flock(file_, LOCK_EX | LOCK_NB) == 0;
    taken_ = !held_ && errno == EWOULDBLOCK;
    struct stat mine = {}, there = {};
    const bool same = ::fstat(file_, &mine) == 0 && ::stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino;
    if (same && !taken_) return;
    ::close(std::exchange(file_, -1));
    made_ = made_ && !taken_;
    if (taken_) return;
  }  // whoever held it took the file away between our two calls: once more
}

FileLock::~FileLock() {
  if (file_ >= 0) ::close(file_);
}

bool locked_by_another(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool locked = ::flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(file);
  return locked;
}

}  // namespace lexring
