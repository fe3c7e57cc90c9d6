#include "jobs/training/heartbeat.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <vector>

#include <fmt/format.h>
#include <sys/stat.h>
#include <nlohmann/json.hpp>

#include "framework/base/console.h"
#include "jobs/training/run_directory.h"

namespace lexring {
namespace {

constexpr double beat_seconds = 2;
constexpr std::size_t recent_steps = 50;

double median(const std::deque<double>& values) {
  std::vector<double> sorted(values.begin(), values.end());
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

void keep(std::deque<double>& values, double value) {
  values.push_back(value);
  if (values.size() > recent_steps) values.pop_front();
}

/// Seconds since 1970; 0 where there is no such file.
double last_change(const std::filesystem::path& path) {
  struct stat file {};
  return ::stat(path.c_str(), &file) == 0 ? static_cast<double>(file.st_mtime) : 0;
}

/// Seconds in the steps and validations of metrics.jsonl.
double useful_seconds(const std::filesystem::path& run_directory) {
  std::ifstream stream(RunDirectory(run_directory).metrics());
  double sum = 0;
  for (std::string line; std::getline(stream, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object()) sum += json.value("seconds", 0.0) + json.value("valid_seconds", 0.0);
  }
  return sum;
}

}  // namespace

Heartbeat::Heartbeat(std::filesystem::path run_directory, RunPlace place, double started)
    : directory_(std::move(run_directory)) {
  if (const auto before = read_status(directory_); before && before->state == "training")
    append_history(directory_, {std::max(before->written, last_change(RunDirectory(directory_).metrics())), "end",
                                before->step, "ended without a word: killed, or lost with its node"});
  status_.state = "training";
  status_.place = std::move(place);
  status_.started = started;
  status_.loss = std::numeric_limits<double>::quiet_NaN();
}

Heartbeat::~Heartbeat() {
  if (status_.state != "training" || status_.written == 0) return;
  status_.state = "failed";
  tell("end", "failed");
  beat();
}

void Heartbeat::begin(std::int64_t done, std::int64_t steps) {
  const bool first = status_.written == 0, goes_back = !first && done < status_.step;
  status_.step = done;
  status_.steps = steps;
  if (first) {
    append_history(directory_, {status_.started, "start", done, status_.place.described});
    status_.useful = useful_seconds(directory_);
  } else if (goes_back) {
    tell("incident", "the run went back to its checkpoint of this step, for a spike");
    useful_is_known_ = false;  // metrics.jsonl is cut back by its own sink
  }
  beat();
}

void Heartbeat::write(const StepMetrics& metrics) {
  if (!useful_is_known_) status_.useful = useful_seconds(directory_);  // of the lines that stand
  useful_is_known_ = true;
  keep(seconds_, metrics.seconds);
  keep(rates_, metrics.tokens_per_second);
  status_.step = metrics.step;
  status_.loss = metrics.loss;
  status_.useful += metrics.seconds + metrics.valid_seconds;
  if (metrics.skipped)
    tell("incident", fmt::format("skipped: loss {}, gradient norm {}", metrics.loss, metrics.gradient_norm));
  if (metrics.computed_twice) tell("incident", fmt::format("computed twice, {}", *metrics.computed_twice));
  for (const std::string& incident : metrics.incidents) tell("incident", incident);
  if (seconds_since_1970() >= status_.written + beat_seconds || !metrics.incidents.empty()) beat();
}

void Heartbeat::finish() {
  status_.state = status_.steps > 0 && status_.step >= status_.steps ? "finished" : "stopped";
  tell("end", status_.state);
  beat();
}

void Heartbeat::beat() {
  const double now = seconds_since_1970();
  if (status_.written > 0) status_.longest_silence = std::max(status_.longest_silence, now - status_.written);
  status_.written = now;
  if (!seconds_.empty()) status_.step_seconds = median(seconds_), status_.tokens_per_second = median(rates_);
  if (write_status(directory_, status_) || complained_) return;
  say("{} takes no status.json: `lexring status` will not know how the run stands\n", directory_.string());
  complained_ = true;
}

void Heartbeat::tell(const char* kind, const std::string& text) {
  append_history(directory_, {seconds_since_1970(), kind, status_.step, text});
}

}  // namespace lexring
