/// A file that is not yet what it will be: it disappears unless it is finished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace lexring {

/// A name under which something is being written; removed on destruction, unless renamed first. Errors name the path
/// and say what to do.
class PartialPath {
 public:
  explicit PartialPath(std::filesystem::path path) : path_(std::move(path)) {}
  PartialPath(const PartialPath&) = delete;
  PartialPath& operator=(const PartialPath&) = delete;
  ~PartialPath();

  const std::filesystem::path& path() const { return path_; }
  /// fsync, rename over `final`, fsync of the directory: afterwards `final` is whole, whatever happens to the machine.
  void finish(const std::filesystem::path& final);

 private:
  std::filesystem::path path_;
  bool finished_ = false;
};

/// A scratch file written from front to back, and read back.
class SpoolFile {
 public:
  /// Takes over what a killed run left under that name; throws Error when a living one is writing it.
  explicit SpoolFile(const std::filesystem::path& path);
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;
  ~SpoolFile();  ///< removes it

  std::uint64_t size() const { return size_; }
  void append(std::span<const std::byte> bytes);
  void truncate(std::uint64_t size);  ///< back to an earlier size
  void read(std::uint64_t first, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  int fd_;
  std::uint64_t size_ = 0;
};

/// The end of a message about a failed write: what to do about `error` (an errno) in the directory of `path`.
const char* advice_on_writing(int error);

}  // namespace lexring
