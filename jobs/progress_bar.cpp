#include "jobs/progress_bar.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

namespace lexring {
namespace {

constexpr int bar_width = 24;

std::string bar(double fraction) {
  const int filled = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * bar_width);
  std::string text;
  for (int i = 0; i < bar_width; ++i) text += i < filled ? "█" : "░";
  return text;
}

}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string format_count(double value) {
  if (value < 1e3) return fmt::format("{:.0f}", value);
  if (value < 1e6) return fmt::format("{:.1f}k", value / 1e3);
  if (value < 1e9) return fmt::format("{:.2f}M", value / 1e6);
  return fmt::format("{:.2f}G", value / 1e9);
}

ProgressBar::ProgressBar(std::string label, std::uint64_t total, std::uint64_t already)
    : label_(std::move(label)),
      total_(total),
      already_(already),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      next_(start_) {}

ProgressBar::~ProgressBar() {
  if (drawn_) std::fputc('\n', stderr);
}

void ProgressBar::update(std::uint64_t done, const std::string& note) {
  done_ = done;
  if (silent_) return;
  const auto now = Clock::now();
  if (now < next_) return;
  if (terminal_) {
    draw(note);
    next_ = now + std::chrono::milliseconds(100);
  } else {
    print(note);
    next_ = now + std::chrono::milliseconds(static_cast<std::int64_t>(interval_ * 1000));
    interval_ = std::min(interval_ * 2, 30.0);
  }
}

void ProgressBar::draw(const std::string& note) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done_ - already_) / std::max(seconds, 1e-9);
  std::string line = "\r\x1b[K" + label_ + " ";
  if (total_ > 0)
    line += fmt::format("{} {}/{}", bar(static_cast<double>(done_) / static_cast<double>(total_)), done_, total_);
  else
    line += format_count(static_cast<double>(done_));
  if (total_ > done_ && done_ > already_) line += fmt::format("  {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  if (!note.empty()) line += "  " + note;
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::print(const std::string& note) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done_ - already_) / std::max(seconds, 1e-9);
  std::string line = label_ + " ";
  line += total_ > 0 ? fmt::format("{}/{}", done_, total_) : format_count(static_cast<double>(done_));
  if (!note.empty()) line += "  " + note;
  if (total_ > done_ && done_ > already_) line += fmt::format("  {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  fmt::print(stderr, "{}\n", line);
  std::fflush(stderr);
}

void ProgressBar::finish(const std::string& note) {
  if (silent_) return;
  if (terminal_)
    draw(note);
  else
    print(fmt::format("{}{}in {}", note, note.empty() ? "" : "  ",
                      format_duration(std::chrono::duration<double>(Clock::now() - start_).count())));
  if (drawn_) std::fputc('\n', stderr), drawn_ = false;
}

}  // namespace lexring
