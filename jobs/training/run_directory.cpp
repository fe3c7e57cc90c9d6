#include "jobs/training/run_directory.h"

#include <unistd.h>

#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "framework/base/error.h"

namespace lexring {
namespace {

constexpr const char* lock_name = ".lock";

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text << std::flush;
  require(stream.good(),
          "{} cannot be written; check permissions and free space, or choose another --checkpoint.directory",
          path.string());
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

std::string RunDirectory::keep_config(std::int64_t step) const {
  const std::string text = read_file(config()), name = fmt::format("config.before-step-{:08}", step);
  std::string kept = name + ".ini";
  for (int number = 2; std::filesystem::exists(path_ / kept); ++number) {
    if (read_file(path_ / kept) == text) return kept;
    kept = fmt::format("{}-{}.ini", name, number);
  }
  const auto temporary = path_ / "config.ini.partial";
  write_file(temporary, text);
  std::filesystem::rename(temporary, path_ / kept);
  return kept;
}

void RunDirectory::write_config(const std::string& ini) const {
  const auto temporary = path_ / "config.ini.partial";
  write_file(temporary, "# The full configuration of this run, written by lexring.\n" + ini);
  std::filesystem::rename(temporary, config());
}

RunLock::RunLock(const std::filesystem::path& run_directory) {
  require_usage(!run_directory.empty(), "checkpoint.directory is empty; name the directory of the run");
  std::error_code error;
  directory_ = std::filesystem::weakly_canonical(run_directory, error);
  if (error) directory_ = run_directory;
  try {
    make_directories();
    // Not by access(2): root may write to a read-only mount as far as that function knows.
    const auto probe = directory_ / ".probe";  // one name: what a start leaves that is killed here, the next takes away
    write_file(probe, "");
    std::filesystem::remove(probe, error);
    lock();
  } catch (...) {
    take_away();
    throw;
  }
}

RunLock::~RunLock() { take_away(); }

void RunLock::make_directories() {
  std::error_code error;
  for (auto path = directory_; !std::filesystem::exists(path, error) && !error && path.has_relative_path();
       path = path.parent_path()) {
    made_.push_back(path);
  }
  std::filesystem::create_directories(directory_, error);
  require(!error && std::filesystem::is_directory(directory_, error),
          "the run's directory {} cannot be made: {}; choose another --checkpoint.directory", directory_.string(),
          error ? error.message() : "a file of that name exists");
}

void RunLock::lock() {
  lock_.emplace(directory_ / lock_name);
  require_usage(!lock_->taken(),
                "{} is being trained by another lexring; wait for it, or choose another --checkpoint.directory",
                directory_.string());
}

void RunLock::take_away() noexcept {
  std::error_code error;
  const auto path = directory_ / lock_name;
  if (lock_ && lock_->made()) {
    std::filesystem::directory_iterator entry(directory_, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      if (entry->path() != path) return;
    }
    if (error) return;
    std::filesystem::remove(path, error);
  }
  for (const auto& made : made_) ::rmdir(made.c_str());  // fails where something is in it
}

}  // namespace lexring
