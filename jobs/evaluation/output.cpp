#include "jobs/evaluation/output.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <unistd.h>

#include "framework/base/error.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

/// The system's reason why the file could not be written; empty: it was.
std::string write_file(const std::filesystem::path& path, const std::string& text) {
  errno = 0;
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << text;
  stream.close();
  return stream.good() ? "" : errno != 0 ? std::strerror(errno) : "the write failed";
}

}  // namespace

OutputDirectory::OutputDirectory(std::filesystem::path path, const std::vector<std::string>& names, Existing existing)
    : path_(std::move(path)) {
  std::error_code error;
  for (const std::string& name : names) {
    require_usage(existing == Existing::replace || !std::filesystem::exists(path_ / name, error),
                  "{} holds an evaluation already ({}); choose another --output, or replace it with --overwrite",
                  path_.string(), name);
  }
  made_ = std::filesystem::create_directories(path_, error);
  require(std::filesystem::is_directory(path_, error),
          "the output directory {} cannot be made: {}; choose another --output", path_.string(),
          error ? error.message() : "a file of that name exists");
  const auto probe = path_ / (".probe-" + std::to_string(getpid()));
  const std::string reason = write_file(probe, "");
  require(reason.empty(),
          "nothing can be written to the output directory {}: {}; check its permissions or choose another --output",
          path_.string(), reason);
  std::filesystem::remove(probe, error);
}

OutputDirectory::~OutputDirectory() {
  std::error_code error;
  if (made_) std::filesystem::remove(path_, error);  // fails where something was written, as it should
}

void OutputDirectory::write(const std::string& name, const std::string& text) const {
  const auto temporary = path_ / (name + ".partial");
  const std::string reason = write_file(temporary, text);
  std::error_code error;
  if (reason.empty()) std::filesystem::rename(temporary, path_ / name, error);
  if (reason.empty() && !error) return;
  const std::string why = reason.empty() ? error.message() : reason;
  std::filesystem::remove(temporary, error);
  fail("{} cannot be written: {}; free some space or choose another --output", (path_ / name).string(), why);
}

EvaluationOutput::EvaluationOutput(const std::filesystem::path& path, const std::vector<std::string>& names,
                                   const Asked& asked, const std::string& command, Existing existing, PartsThere there)
    : directory_(path, names, PartsFile::holds(path, asked) ? Existing::replace : existing),
      parts_(path, asked, command, there) {}

void EvaluationOutput::finish(const std::vector<std::pair<std::string, std::string>>& files) {
  for (const auto& [name, text] : files) {
    directory_.write(name, text);
    sync_path(path() / name);
  }
  sync_path(path());  // a power cut after the parts are gone finds the results
  parts_.remove();
}

}  // namespace lexring
