/// The finished parts of an evaluation in its output directory, so that one that was stopped or killed goes on.
///
/// A file of lines, each a checksum (XXH3) and a JSON object. The first object says what was asked, the others are
/// parts, in the order in which they were done; numbers come back as exactly the same. Lines are only ever added, and
/// reach the system at once, so that a killed process loses none; what a power cut may take is at most
/// `seconds_between_syncs` old. A line that is not whole, and what is behind it, does not count.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "framework/io/file_lock.h"

namespace lexring {

/// What was found over the windows, or texts, [first, last) of one cell.
struct Part {
  std::string of;  ///< the cell's name
  std::int64_t first = 0, last = 0;
  std::vector<double> numbers;
  std::vector<std::int64_t> counts;
  bool operator==(const Part&) const = default;
};

/// Everything that results depend on, by name: parts belong to one evaluation, and to no other.
using Asked = std::vector<std::pair<std::string, std::string>>;

/// What becomes of the parts that are there.
enum class PartsThere {
  go_on,  ///< with those of the same evaluation; another one's are refused
  take,   ///< with those of the same evaluation; another one's are thrown away
  discard
};

class PartsFile {
 public:
  static constexpr const char* name = "evaluation.parts";
  static constexpr std::chrono::seconds seconds_between_syncs{10};

  /// Whether this evaluation was begun in `directory`, and not finished.
  static bool holds(const std::filesystem::path& directory, const Asked& asked);

  /// Makes the file in `directory` where it is missing, and keeps other processes off. `command`: as it was typed.
  /// Throws UsageError where another process is at work, or the parts there are of another evaluation, naming what
  /// differs; Error where it cannot be made.
  PartsFile(const std::filesystem::path& directory, const Asked& asked, const std::string& command, PartsThere there);
  PartsFile(const PartsFile&) = delete;
  PartsFile& operator=(const PartsFile&) = delete;
  ~PartsFile();  ///< a file without parts is taken away

  /// Those that were there, and those added.
  const std::vector<Part>& parts() const { return parts_; }
  /// Adds one. Where it cannot be written, that is said once, and tried again with the next one.
  void add(Part part);
  /// False when parts could not be written, in spite of another try: who goes on does these again.
  bool sync();
  /// The results are written.
  void remove();

 private:
  void begin(const Asked& asked, const std::string& command);
  bool write();

  std::filesystem::path path_;
  FileLock lock_;
  std::vector<Part> parts_;
  std::size_t size_ = 0;  ///< of the file
  std::string waiting_;   ///< lines that are not in the file yet
  bool said_ = false, removed_ = false;
  std::chrono::steady_clock::time_point synced_;
};

/// A line of the file, without its end; and the part that it holds.
std::string line_of(const Part& part);
/// The parts of these lines, up to the first that is not whole.
std::vector<Part> parts_of(const std::string& lines);

}  // namespace lexring
