#include "datasets/output_target.h"

#include <unistd.h>

#include "datasets/partial_file.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

namespace fs = std::filesystem;

fs::path directory_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

fs::path follow_links(const fs::path& output) {
  auto path = output;
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(path, error)); ++links) {
    require_usage(links < 40, "--output {} is a link that leads back to itself; remove it, or choose another name",
                  output.string());
    path = directory_of(path) / fs::read_symlink(path);
  }
  require_usage(
      path == output || fs::is_directory(directory_of(path), error),
      "--output {} is a link to {}, whose directory does not exist; mount its disk or make it, or choose another name",
      output.string(), path.string());
  return path;
}

/// Removes the directories `inner` and around it up to `outer`, which we made (empty: none); those that hold something
/// stay.
void remove_made(fs::path inner, const fs::path& outer) {
  if (outer.empty()) return;
  for (;; inner = inner.parent_path()) {
    ::rmdir(inner.c_str());  // fails where something is in it
    if (inner == outer) return;
  }
}

const char* kind_of(fs::file_type type) {
  switch (type) {
    case fs::file_type::character:
    case fs::file_type::block:
      return "a device";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    default:
      return "no file";
  }
}

}  // namespace

OutputTarget::OutputTarget(const fs::path& output, Existing existing) {
  require_usage(!output.empty(), "no output was given; name the file to write with --output FILE.h5");
  std::error_code error;
  const auto status = fs::status(output, error);  // of what links lead to, also those of /proc that have no path
  require_usage(output.has_filename() && !fs::is_directory(status),
                "--output {} names a directory; name a file in it, e.g. {}", output.string(),
                (output / "train.h5").string());
  require_usage(!fs::exists(status) || fs::is_regular_file(status),
                "--output {} is {}, and a data set needs a file; choose another name", output.string(),
                kind_of(status.type()));
  require_usage(!fs::exists(status) || existing == Existing::replace,
                "--output {} exists; choose another name, or replace it with --overwrite", output.string());
  path_ = follow_links(output);
  make_directories();
}

OutputTarget::~OutputTarget() { remove_made(path_.parent_path(), made_); }

void OutputTarget::make_directories() {
  const auto directory = path_.parent_path();
  std::error_code error;
  for (auto missing = directory; !missing.empty() && !fs::exists(fs::status(missing, error));
       missing = missing.parent_path())
    made_ = missing;
  if (made_.empty() && (directory.empty() || fs::is_directory(directory, error))) return;
  fs::create_directories(directory, error);
  if (error) remove_made(directory, made_);
  require(!error, "cannot make the directory {}: {}; {}", directory.string(), error.message(),
          advice_on_writing(error.value()));
}

}  // namespace lexring
