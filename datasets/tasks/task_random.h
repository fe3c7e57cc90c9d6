/// The numbers that tasks draw, and how their texts end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "datasets/tasks/task.h"

namespace lexring {

/// SplitMix64 (Steele, Lea, Flood 2014).
class TaskRandom {
 public:
  explicit TaskRandom(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(n)); }
  std::int64_t between(std::int64_t low, std::int64_t high) {  ///< both included
    return low + below(high - low + 1);
  }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1p-53 < p; }
  char of(std::string_view alphabet) {
    return alphabet[static_cast<std::size_t>(below(static_cast<std::int64_t>(alphabet.size())))];
  }
  std::string text(std::string_view alphabet, std::int64_t length) {
    std::string drawn(static_cast<std::size_t>(length), ' ');
    for (char& c : drawn) c = of(alphabet);
    return drawn;
  }

 private:
  std::uint64_t state_;
};

/// A prompt and its one answer.
inline ScoredText answered(std::string prompt, std::string_view answer) {
  const auto begin = static_cast<std::int64_t>(prompt.size());
  prompt += answer;
  return {std::move(prompt), {{begin, begin + static_cast<std::int64_t>(answer.size())}}};
}

}  // namespace lexring
