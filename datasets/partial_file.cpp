#include "datasets/partial_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

void sync(const std::filesystem::path& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  require(fd >= 0, "cannot open {} to flush it to disk: {}", path.string(), std::strerror(errno));
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  require(failed == 0, "cannot flush {} to disk: {}; {}", path.string(), std::strerror(failed),
          advice_on_writing(failed));
}

}  // namespace

const char* advice_on_writing(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return "free some space, or write to another disk";
    case EFBIG:
      return "raise the limit on the size of files (ulimit -f), or write to another disk";
    case EACCES:
    case EPERM:
    case EROFS:
      return "write into a directory that you may write to";
    case ENOENT:
    case ENOTDIR:
      return "write into a directory that exists";
    default:
      return "check the disk it lies on";
  }
}

PartialPath::~PartialPath() {
  std::error_code ignored;
  if (!finished_) std::filesystem::remove(path_, ignored);
}

void PartialPath::finish(const std::filesystem::path& final) {
  sync(path_, O_RDONLY);
  std::error_code error;
  std::filesystem::rename(path_, final, error);
  require(!error, "cannot rename {} to {}: {}; {}", path_.string(), final.string(), error.message(),
          advice_on_writing(error.value()));
  finished_ = true;
  const auto directory = final.parent_path();
  sync(directory.empty() ? "." : directory, O_RDONLY | O_DIRECTORY);
}

SpoolFile::SpoolFile(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  require(fd_ >= 0, "cannot write {}: {}; {}", path.string(), std::strerror(errno), advice_on_writing(errno));
  // Not cut when opened: it may be the file of a run that is still at work.
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(fd_);
    fail("{} is being written by another `lexring prepare`; wait for it, or choose another --output", path.string());
  }
}

SpoolFile::~SpoolFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
  ::close(fd_);
}

void SpoolFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (written < 0 && errno == EINTR) continue;
    require(written >= 0, "cannot write {} after {}: {}; {}", path_.string(), counted(size_, "byte"),
            std::strerror(errno), advice_on_writing(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    size_ += static_cast<std::uint64_t>(written);
  }
}

void SpoolFile::truncate(std::uint64_t size) {
  require(::ftruncate(fd_, static_cast<off_t>(size)) == 0, "cannot shorten {}: {}; {}", path_.string(),
          std::strerror(errno), advice_on_writing(errno));
  size_ = size;
}

void SpoolFile::read(std::uint64_t first, std::span<std::byte> out) const {
  while (!out.empty()) {
    const auto got = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(first));
    if (got < 0 && errno == EINTR) continue;
    require(got > 0, "cannot read {} back at byte {}: {}; check the disk it lies on", path_.string(), first,
            got < 0 ? std::strerror(errno) : "it ends there");
    out = out.subspan(static_cast<std::size_t>(got));
    first += static_cast<std::uint64_t>(got);
  }
}

}  // namespace lexring
