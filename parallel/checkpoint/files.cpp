#include "parallel/checkpoint/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "framework/base/error.h"

namespace lexring {
namespace {

[[noreturn]] void fail_on(const std::filesystem::path& path, const char* verb, int error) {
  const char* advice = error == ENOSPC || error == EDQUOT ? "; free some space or choose another directory"
                       : error == EACCES || error == EROFS || error == EPERM
                           ? "; choose a directory that may be written and read"
                           : "";
  fail("{}: cannot {}: {}{}", path.string(), verb, std::strerror(error), advice);
}

class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags, const char* verb)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail_on(path, verb, errno);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  operator int() const { return fd_; }  // NOLINT(google-explicit-constructor)
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct HashState {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

/// Calls `take(bytes, count)` with the file's contents, in order.
template <class Take>
void read_file(const std::filesystem::path& path, const Take& take) {
  const Descriptor file(path, O_RDONLY, "open");
  std::vector<char> buffer(std::size_t{1} << 20);
  for (;;) {
    const ssize_t got = ::read(file, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_on(path, "read", errno);
    if (got == 0) return;
    take(buffer.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

std::string hash_text(std::string_view text) { return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size())); }

std::string hash_file(const std::filesystem::path& path) {
  const std::unique_ptr<XXH3_state_t, HashState> state(XXH3_createState());
  require(state != nullptr && XXH3_64bits_reset(state.get()) == XXH_OK, "{}: no memory for its checksum",
          path.string());
  read_file(path, [&](const char* bytes, std::size_t count) { XXH3_64bits_update(state.get(), bytes, count); });
  return fmt::format("{:016x}", XXH3_64bits_digest(state.get()));
}

std::uint64_t size_of_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) fail_on(path, "open", error.value());
  return size;
}

std::string read_text_file(const std::filesystem::path& path) {
  std::string text;
  text.reserve(size_of_file(path));
  read_file(path, [&](const char* bytes, std::size_t count) { text.append(bytes, count); });
  return text;
}

void sync_path(const std::filesystem::path& path) {
  const Descriptor file(path, O_RDONLY, "open");
  if (::fsync(file) != 0) fail_on(path, "write to disk", errno);
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC, "create");
  while (!text.empty()) {
    const ssize_t put = ::write(file, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_on(path, "write", errno);
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::fsync(file) != 0) fail_on(path, "write to disk", errno);
  if (::close(file.release()) != 0) fail_on(path, "close", errno);
}

void replace_text_file(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path next = path;
  next += ".new";
  write_text_file(next, text);
  rename_path(next, path);
}

void rename_path(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_on(to, "put into place", errno);
  sync_path(to.parent_path().empty() ? "." : to.parent_path());
}

void make_directories(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail_on(path, "make this directory", error.value());
}

void remove_tree(const std::filesystem::path& path) {
  std::error_code error;
  do std::filesystem::remove_all(path, error);
  while (error == std::errc::no_such_file_or_directory);  // somebody else deletes it too
  if (error) fail_on(path, "delete", error.value());
}

}  // namespace lexring
