#include "parallel/comm/watch/standing.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

namespace lexring {
namespace {

enum class Names { nothing, descriptor, path, directory_and_path };  // what a call's first arguments are

struct Call {
  long number;
  const char* name;
  Names names;
};

constexpr Call calls[] = {
    {SYS_read, "read", Names::descriptor},
    {SYS_pread64, "pread", Names::descriptor},
    {SYS_readv, "readv", Names::descriptor},
    {SYS_preadv, "preadv", Names::descriptor},
    {SYS_write, "write", Names::descriptor},
    {SYS_pwrite64, "pwrite", Names::descriptor},
    {SYS_writev, "writev", Names::descriptor},
    {SYS_pwritev, "pwritev", Names::descriptor},
    {SYS_fsync, "fsync", Names::descriptor},
    {SYS_fdatasync, "fdatasync", Names::descriptor},
    {SYS_ftruncate, "ftruncate", Names::descriptor},
    {SYS_fallocate, "fallocate", Names::descriptor},
    {SYS_lseek, "lseek", Names::descriptor},
    {SYS_flock, "flock", Names::descriptor},
    {SYS_fcntl, "fcntl", Names::descriptor},
    {SYS_ioctl, "ioctl", Names::descriptor},
    {SYS_close, "close", Names::descriptor},
    {SYS_fstat, "fstat", Names::descriptor},
    {SYS_getdents64, "getdents", Names::descriptor},
    {SYS_openat, "open", Names::directory_and_path},
    {SYS_newfstatat, "stat", Names::directory_and_path},
    {SYS_statx, "stat", Names::directory_and_path},
    {SYS_mkdirat, "mkdir", Names::directory_and_path},
    {SYS_unlinkat, "unlink", Names::directory_and_path},
    {SYS_renameat, "rename", Names::directory_and_path},
    {SYS_renameat2, "rename", Names::directory_and_path},
    {SYS_faccessat, "access", Names::directory_and_path},
#ifdef SYS_open  // older calls, which not every processor's kernel has
    {SYS_open, "open", Names::path},
    {SYS_stat, "stat", Names::path},
    {SYS_mkdir, "mkdir", Names::path},
    {SYS_rmdir, "rmdir", Names::path},
    {SYS_unlink, "unlink", Names::path},
    {SYS_rename, "rename", Names::path},
    {SYS_access, "access", Names::path},
#endif
    {SYS_futex, "futex", Names::nothing},
    {SYS_wait4, "wait for a child process", Names::nothing},
    {SYS_clock_nanosleep, "sleep", Names::nothing},
    {SYS_nanosleep, "sleep", Names::nothing},
    {SYS_ppoll, "poll", Names::nothing},
    {SYS_connect, "connect", Names::nothing},
    {SYS_recvfrom, "recv", Names::nothing},
    {SYS_recvmsg, "recv", Names::nothing},
    {SYS_sendto, "send", Names::nothing},
    {SYS_sendmsg, "send", Names::nothing},
};

struct Standing {
  char state = '?';  ///< R, S, D, t, ... as in /proc/PID/stat
  long number = -1;  ///< of the system call; -1: none
  std::array<std::uint64_t, 2> arguments = {};
  const Call* call = nullptr;  ///< where we know it
};

std::string first_line(const std::string& path) {
  std::ifstream stream(path);
  std::string line;
  std::getline(stream, line);
  return line;
}

std::optional<Standing> standing_of(const std::string& thread) {
  const std::string stat = first_line("/proc/self/task/" + thread + "/stat");
  const auto name_end = stat.rfind(") ");
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return std::nullopt;
  Standing standing{.state = stat[name_end + 2]};
  std::istringstream text(first_line("/proc/self/task/" + thread + "/syscall"));  // "running", or numbers
  if (!(text >> standing.number)) standing.number = -1;
  for (std::uint64_t& argument : standing.arguments) {
    std::string digits;
    if (text >> digits && digits.starts_with("0x"))
      std::from_chars(digits.data() + 2, digits.data() + digits.size(), argument, 16);
  }
  for (const Call& call : calls) {
    if (call.number == standing.number) standing.call = &call;
  }
  return standing;
}

std::string end_of(const std::string& path) {
  constexpr std::size_t room = 100;
  return path.size() <= room ? path : "..." + path.substr(path.size() - room);
}

/// The text at an address of our own that another thread may just be giving back: through the kernel, which refuses
/// where nothing is.
std::string text_at(std::uint64_t address) {
  const int memory = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  std::array<char, 4096> text = {};
  ssize_t got = 0;
  if (memory >= 0) {
    // A page at the end of what is mapped cuts a read short, so that this needs no second one.
    got = ::pread(memory, text.data(), text.size() - 1, static_cast<off_t>(address));
    ::close(memory);
  }
  return got > 0 ? std::string(text.data()) : "";
}

/// The file that the call is about; empty: none, or not known.
std::string file_of(const Standing& standing) {
  const Names names = standing.call == nullptr ? Names::nothing : standing.call->names;
  if (names == Names::path) return text_at(standing.arguments[0]);
  if (names == Names::directory_and_path) return text_at(standing.arguments[1]);
  if (names == Names::nothing) return "";
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(standing.arguments[0]), error).string();
}

/// "is in read of /data/corpus.h5"
std::string describe(const Standing& standing) {
  if (standing.state == 't' || standing.state == 'T') return "is stopped, by a debugger or a signal";
  if (standing.number < 0) {
    return standing.state == 'D' ? "waits for pages of a file or of swapped memory"
                                 : "is running, so it computes or loops";
  }
  const std::string file = file_of(standing);
  const std::string name =
      standing.call != nullptr ? standing.call->name : fmt::format("system call {}", standing.number);
  return fmt::format("is in {}{}{}", name, file.empty() ? "" : " of ", end_of(file));
}

/// Of another thread than the main one, whether it is what the main one may wait for: at a file, not at a pipe.
bool works_on_file(const Standing& standing) { return file_of(standing).starts_with("/"); }

}  // namespace

std::string describe_main_thread() {
  const std::string main_thread = std::to_string(getpid()), own = std::to_string(syscall(SYS_gettid));
  const auto standing = standing_of(main_thread);
  if (!standing) return "";
  if (standing->number != SYS_futex) return "its main thread " + describe(*standing);
  std::error_code error;
  for (std::filesystem::directory_iterator task("/proc/self/task", error), end; !error && task != end;
       task.increment(error)) {
    const std::string thread = task->path().filename();
    if (thread == main_thread || thread == own) continue;
    const auto other = standing_of(thread);
    if (other && works_on_file(*other)) return "its main thread waits for another thread, which " + describe(*other);
  }
  return "its main thread waits for another thread";
}

}  // namespace lexring
