/// Progress of long work on standard error: a bar with rate and time left on a terminal, in one row of it however wide
/// it is at the moment; plain lines now and then elsewhere (TERM=dumb too).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace lexring {

class ProgressBar {
 public:
  /// `unit`: what is counted, "step". `total`: of them in all; 0 where it is not known. `already`: of these, done
  /// before (a resumed run); they do not count for the rate.
  ProgressBar(std::string label, std::string unit, std::uint64_t total, std::uint64_t already = 0);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();  ///< leaves the terminal on a fresh line

  /// `done` units so far; `note` stands at the end of the line ("loss 2.31"). Cheap enough to call every step: it draws
  /// at most ten times a second on a terminal, and elsewhere prints after 1, 2, 4, ... and then every 30 seconds.
  void update(std::uint64_t done, const std::string& note = "");
  /// The last line. Once.
  void finish(const std::string& note = "");
  /// Draw nothing at all (ranks other than 0).
  void silence() { silent_ = true; }

 private:
  using Clock = std::chrono::steady_clock;
  void draw(const std::string& note);
  void print(const std::string& note);

  std::string count() const;  ///< "3/736 steps"

  std::string label_, unit_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  std::uint64_t already_;
  bool terminal_;
  bool silent_ = false;
  bool drawn_ = false;
  Clock::time_point start_, next_;
  double interval_ = 1.0;  ///< seconds to the next plain line
};

/// The part of `text` (UTF-8) that fits into so many columns.
std::string first_columns(const std::string& text, int columns);
/// "1 h 2 min", "4 min 5 s" or "12 s".
std::string format_duration(double seconds);
/// "1.23M", "45.6k", "789".
std::string format_count(double value);

}  // namespace lexring
