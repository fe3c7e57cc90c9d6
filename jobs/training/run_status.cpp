#include "jobs/training/run_status.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>

#include <unistd.h>
#include <nlohmann/json.hpp>

#include "jobs/launch/nodes.h"

namespace lexring {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* status_name = "status.json";
constexpr const char* history_name = "history.jsonl";

template <class T>
void take(const Json& json, const char* name, T& value) {
  if (const auto at = json.find(name); at != json.end() && !at->is_null()) value = at->get<T>();
}

/// nullopt where the text is no object, or a member is of another type than here.
template <class T>
std::optional<T> parsed(const std::string& text, T (*from)(const Json&)) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  try {
    return from(json);
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

RunStatus status_from(const Json& json) {
  RunStatus status;
  status.loss = std::numeric_limits<double>::quiet_NaN();
  take(json, "state", status.state);
  take(json, "node", status.place.node);
  take(json, "job", status.place.job);
  take(json, "pid", status.place.pid);
  take(json, "place", status.place.described);
  take(json, "started", status.started);
  take(json, "written", status.written);
  take(json, "longest_silence", status.longest_silence);
  take(json, "step", status.step);
  take(json, "steps", status.steps);
  take(json, "loss", status.loss);
  take(json, "tokens_per_second", status.tokens_per_second);
  take(json, "step_seconds", status.step_seconds);
  take(json, "useful", status.useful);
  return status;
}

RunEvent event_from(const Json& json) {
  RunEvent event;
  take(json, "time", event.time);
  take(json, "kind", event.kind);
  take(json, "step", event.step);
  take(json, "text", event.text);
  return event;
}

/// A process that has ended may stay in the table until its parent asks for it.
bool is_gone(std::int64_t pid) {
  std::ifstream stream("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(stream, text)) return true;
  const auto name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end, 3, ") Z") == 0;
}

}  // namespace

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

RunPlace place_of_run(std::string described) { return {node_name(), slurm_job(), getpid(), std::move(described)}; }

std::optional<RunStatus> read_status(const std::filesystem::path& run_directory) {
  std::ifstream stream(run_directory / status_name, std::ios::binary);
  return parsed(std::string(std::istreambuf_iterator<char>(stream), {}), status_from);
}

bool write_status(const std::filesystem::path& run_directory, const RunStatus& s) {
  const Json json = {{"state", s.state},
                     {"node", s.place.node},
                     {"job", s.place.job},
                     {"pid", s.place.pid},
                     {"place", s.place.described},
                     {"started", s.started},
                     {"written", s.written},
                     {"longest_silence", s.longest_silence},
                     {"step", s.step},
                     {"steps", s.steps},
                     {"loss", s.loss},
                     {"tokens_per_second", s.tokens_per_second},
                     {"step_seconds", s.step_seconds},
                     {"useful", s.useful}};
  const auto partial = run_directory / (std::string(status_name) + ".partial");
  std::ofstream stream(partial, std::ios::binary | std::ios::trunc);
  stream << json.dump() << "\n";
  stream.close();
  std::error_code error;
  if (stream) std::filesystem::rename(partial, run_directory / status_name, error);
  return stream && !error;
}

std::vector<RunEvent> read_history(const std::filesystem::path& run_directory) {
  std::ifstream stream(run_directory / history_name, std::ios::binary);
  std::vector<RunEvent> events;
  for (std::string line; std::getline(stream, line);) {
    if (const auto event = parsed(line, event_from)) events.push_back(*event);
  }
  return events;
}

bool append_history(const std::filesystem::path& run_directory, const RunEvent& event) {
  const Json json = {{"time", event.time}, {"kind", event.kind}, {"step", event.step}, {"text", event.text}};
  std::ofstream stream(run_directory / history_name, std::ios::binary | std::ios::app);
  stream << json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" << std::flush;
  return stream.good();
}

std::string state_at(double now, const RunStatus& s) {
  if (s.state != "training") return s.state;
  if (s.place.node == node_name() && is_gone(s.place.pid)) return "killed";
  const double patience = std::max({120.0, 10 * s.step_seconds, 3 * s.longest_silence});
  return now - s.written > patience ? "silent" : "training";
}

double seconds_of_turns(const std::vector<RunEvent>& history, const RunStatus& status) {
  double sum = 0, began = 0;
  bool open = false;
  for (const RunEvent& event : history) {
    if (event.kind == "start") open = true, began = event.time;
    if (event.kind == "end" && open) open = false, sum += event.time - began;
  }
  return open ? sum + status.written - began : sum;
}

}  // namespace lexring
