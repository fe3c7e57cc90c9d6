#include "jobs/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include <fmt/format.h>

#include "framework/base/error.h"

namespace lexring {
namespace {

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text << std::flush;
  require(stream.good(), "{} cannot be written; check permissions and free space, or choose another --checkpoint.directory", path.string());
}

}  // namespace

void RunDirectory::prepare(const std::filesystem::path& path) {
  require_usage(!path.empty(), "checkpoint.directory is empty; name the directory of the run");
  std::error_code error;
  std::filesystem::create_directories(path, error);
  require(!error && std::filesystem::is_directory(path, error),
          "the run's directory {} cannot be made: {}; choose another --checkpoint.directory", path.string(),
          error ? error.message() : "a file of that name exists");
  // Not by access(2): root may write to a read-only mount as far as that function knows.
  const auto probe = path / (".probe-" + std::to_string(getpid()));
  write_file(probe, "");
  std::filesystem::remove(probe, error);
}

void RunDirectory::write_config(const std::string& ini) const {
  const auto temporary = path_ / "config.ini.partial";
  write_file(temporary, "# The full configuration of this run, written by lexring.\n" + ini);
  std::filesystem::rename(temporary, config());
}

RunLock::RunLock(const std::filesystem::path& run_directory)
    : file_(::open((run_directory / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (file_ < 0 || ::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(file_);
  throw UsageError(fmt::format("{} is being trained by another lexring; wait for it, or choose another --checkpoint.directory",
                               run_directory.string()));
}

RunLock::~RunLock() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace lexring
