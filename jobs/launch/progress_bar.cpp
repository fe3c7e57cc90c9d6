#include "jobs/launch/progress_bar.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"

namespace lexring {
namespace {

constexpr int widest_bar = 24, narrowest_bar = 6;

std::string bar(double fraction, int width) {
  const int filled = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width);
  std::string text;
  for (int i = 0; i < width; ++i) text += i < filled ? "█" : "░";
  return text;
}

bool draws_bars(int descriptor) {
  const char* const kind = std::getenv("TERM");
  return isatty(descriptor) == 1 && kind != nullptr && *kind != '\0' && std::string_view(kind) != "dumb";
}

/// Asked each time, as windows change their size; 80 where the terminal does not know.
int terminal_columns(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; }

int columns_of(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), begins_character));
}

}  // namespace

std::string first_columns(const std::string& text, int columns) {
  int seen = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (begins_character(text[i]) && ++seen > columns) return text.substr(0, i);
  }
  return text;
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string format_count(double value) {
  if (value < 1e3) return fmt::format("{:.0f}", value);
  if (value < 1e6) return fmt::format("{:.1f}k", value / 1e3);
  if (value < 1e9) return fmt::format("{:.2f}M", value / 1e6);
  return fmt::format("{:.2f}G", value / 1e9);
}

ProgressBar::ProgressBar(std::string label, std::string unit, std::uint64_t total, std::uint64_t already)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(total),
      already_(already),
      terminal_(draws_bars(STDERR_FILENO)),
      start_(Clock::now()),
      next_(start_) {}

ProgressBar::~ProgressBar() {
  if (drawn_) say("\n");
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

std::string ProgressBar::count() const {
  if (total_ > 0) return fmt::format("{}/{} {}", done_, total_, noun(total_, unit_));
  return fmt::format("{} {}", format_count(static_cast<double>(done_)), noun(done_, unit_));
}

void ProgressBar::draw(const std::string& note) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done_ - already_) / std::max(seconds, 1e-9);
  std::string numbers = fmt::format("{}{}", total_ > 0 ? " " : "", count());
  if (total_ > done_ && done_ > already_)
    numbers += fmt::format("  {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  if (!note.empty()) numbers += "  " + note;
  // A line that fills the last column would go on in the next row, from which the next one could not take it back.
  const int columns = std::max(terminal_columns(STDERR_FILENO) - 1, 1);
  const int room = columns - columns_of(label_) - 1 - columns_of(numbers);
  std::string line = label_ + " ";
  if (total_ > 0)
    line += bar(static_cast<double>(done_) / static_cast<double>(total_), std::clamp(room, narrowest_bar, widest_bar));
  say("\r\x1b[K{}", first_columns(line + numbers, columns));
  drawn_ = true;
}

void ProgressBar::print(const std::string& note) {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done_ - already_) / std::max(seconds, 1e-9);
  std::string line = fmt::format("{} {}", label_, count());
  if (!note.empty()) line += "  " + note;
  if (total_ > done_ && done_ > already_)
    line += fmt::format("  {} left", format_duration(static_cast<double>(total_ - done_) / rate));
  say("{}\n", line);
}

void ProgressBar::finish(const std::string& note) {
  if (silent_) return;
  if (terminal_) draw(note);
  else
    print(fmt::format("{}{}in {}", note, note.empty() ? "" : "  ",
                      format_duration(std::chrono::duration<double>(Clock::now() - start_).count())));
  if (drawn_) say("\n"), drawn_ = false;
}

}  // namespace lexring
