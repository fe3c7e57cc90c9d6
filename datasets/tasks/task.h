/// Tasks with known answers: texts of bytes, made from a seed, of which some bytes are scored. The same seed makes the
/// same text on every machine, byte for byte.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lexring {

/// Bytes [begin, end) of a text.
struct Answer {
  std::int64_t begin, end;
};

struct ScoredText {
  std::string text;
  std::vector<Answer> answers;  ///< in order; at least one, none empty
};

struct TaskSettings {
  double depth = -1;  ///< passkey, needle: share of the text before what is to be found, 0 to 1; -1: drawn
  std::shared_ptr<const std::string> haystack = {};  ///< needle: what it is hidden in; not empty
  double ignore = 0.8;                               ///< flip_flop: probability of an instruction that is to be ignored
  bool reversed_sum = false;                         ///< addition: the lowest digit of the sum first
};

struct Task {
  std::string_view name;
  std::string_view unit;     ///< of sizes: "bytes", "lines", "pairs"
  std::int64_t least, most;  ///< sizes; the most takes seconds and some hundred megabytes
  std::string_view what;     ///< and whose
  ScoredText (*make)(std::uint64_t seed, std::int64_t size, const TaskSettings& settings);
};

/// All of them.
std::span<const Task> tasks();
/// Throws UsageError that lists the names.
const Task& find_task(std::string_view name);
/// Throws UsageError with the least or the most.
void check_size(const Task& task, std::int64_t size);
/// Throws as check_size does.
ScoredText make_text(const Task& task, std::uint64_t seed, std::int64_t size, const TaskSettings& settings = {});

}  // namespace lexring
