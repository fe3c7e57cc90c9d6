#include "jobs/commands/status.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <thread>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "framework/base/console.h"
#include "framework/base/counted.h"
#include "jobs/config/keys.h"
#include "jobs/launch/exit_codes.h"
#include "jobs/launch/progress_bar.h"
#include "jobs/training/run_directory.h"
#include "jobs/training/run_status.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {
namespace {

const char* const usage = R"(lexring status: how runs stand

  lexring status runs/first
  lexring status runs/* --watch 10
  lexring status studies/lex

Reads what a run writes into its directory, so that it works on any node that sees it. RUN: a run's directory, or one
with runs below it. Its states:

  training   and the last sign of life is recent
  silent     no sign of life for far longer than before: it hangs, or its node is gone
  killed     its process is gone from this node, without a word
  stopped    by a signal, with a checkpoint; the same command goes on
  failed     see its log
  finished   all steps are done
  new        nothing is known but its configuration

"lost" is the share of its time, over all turns, that was not spent in steps and validations that stand: start-up,
saves, work done once more after a stop. The exit code is 0 when all are finished, 75 while some are training, new or
stopped, 1 when one has failed, was killed or is silent.

)";

std::string when(double time) {
  const auto seconds = static_cast<std::time_t>(time);
  std::tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", local);
}

std::string ago(double seconds) { return format_duration(std::max(seconds, 0.0)) + " ago"; }

std::string newest_checkpoint(const std::filesystem::path& run, double now) {
  try {
    const auto found = find_checkpoint(run);
    if (!found) return "none";
    struct stat file {};
    if (::stat(found->c_str(), &file) != 0) return found->filename().string();
    return fmt::format("{}, {}", found->filename().string(), ago(now - static_cast<double>(file.st_mtime)));
  } catch (const Error& error) {
    return error.what();
  }
}

/// One run as rows of a table; what is not known is empty.
struct Row {
  std::string run, state, step, loss, speed, left, lost, checkpoint;
  std::string more;  ///< a line below
};

Row row_of(const std::filesystem::path& run, double now) {
  Row row;
  row.run = run.string();
  row.state = "new";
  row.checkpoint = newest_checkpoint(run, now);
  const auto status = read_status(run);
  if (!status) return row;
  const RunStatus& s = *status;
  row.state = state_at(now, s);
  row.step = s.steps > 0 ? fmt::format("{} of {}", s.step, s.steps) : fmt::format("{}", s.step);
  if (!std::isnan(s.loss)) row.loss = fmt::format("{:.4f}", s.loss);
  if (s.tokens_per_second > 0) row.speed = format_count(s.tokens_per_second);
  if (s.steps > s.step && s.step_seconds > 0)
    row.left = format_duration(static_cast<double>(s.steps - s.step) * s.step_seconds);
  const std::vector<RunEvent> history = read_history(run);
  const double turns = seconds_of_turns(history, s);
  if (turns > 0)
    row.lost = fmt::format("{:.1f} % of {}", 100 * std::clamp(1 - s.useful / turns, 0.0, 1.0), format_duration(turns));
  const auto count = std::count_if(history.begin(), history.end(), [](const RunEvent& e) { return e.kind == "start"; });
  row.more = fmt::format("{} on {}{}, process {}, {}; last sign of life {}", s.place.described, s.place.node,
                         s.place.job.empty() ? "" : " in job " + s.place.job, s.place.pid, counted(count, "turn"),
                         ago(now - s.written));
  for (auto event = history.rbegin(); event != history.rend(); ++event) {
    if (event->kind == "start" || event->text == "finished") continue;
    row.more += fmt::format("\n    {}, step {}: {}", when(event->time), event->step, event->text);
    break;
  }
  return row;
}

std::string table_of(const std::vector<Row>& rows) {
  using Column = std::string Row::*;
  const std::vector<std::pair<std::string, Column>> columns = {
      {"run", &Row::run},        {"state", &Row::state}, {"step", &Row::step}, {"loss", &Row::loss},
      {"tokens/s", &Row::speed}, {"left", &Row::left},   {"lost", &Row::lost}, {"checkpoint", &Row::checkpoint}};
  std::vector<std::string> lines(rows.size() + 1);
  for (const auto& [title, column] : columns) {
    std::size_t width = title.size();
    for (const Row& row : rows) width = std::max(width, (row.*column).size());
    lines[0] += fmt::format("{:<{}}  ", title, width);
    for (std::size_t i = 0; i < rows.size(); ++i) lines[i + 1] += fmt::format("{:<{}}  ", rows[i].*column, width);
  }
  std::string text;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    text += lines[i].substr(0, lines[i].find_last_not_of(' ') + 1) + "\n";
    if (i > 0 && !rows[i - 1].more.empty()) text += "    " + rows[i - 1].more + "\n";
  }
  return text;
}

bool is_run(const std::filesystem::path& path) {
  std::error_code unreadable;
  return std::filesystem::exists(RunDirectory(path).config(), unreadable);
}

/// The run that a path is, or those below it, as a study has them.
std::vector<std::filesystem::path> runs_of(const std::string& asked) {
  if (is_run(asked)) return {asked};
  std::error_code error;
  std::vector<std::filesystem::path> runs;
  std::filesystem::recursive_directory_iterator entry(asked, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    if (!entry->is_directory(error)) continue;
    if (is_run(entry->path())) runs.push_back(entry->path());
    if (is_run(entry->path()) || entry.depth() == 2) entry.disable_recursion_pending();
  }
  require_usage(!runs.empty(), "{} {}; give directories that `lexring train` wrote, --checkpoint.directory", asked,
                error ? "cannot be read: " + error.message() : "is no run, and none lies in it");
  std::sort(runs.begin(), runs.end());
  return runs;
}

int code_of(const std::vector<Row>& rows) {
  int code = 0;
  for (const Row& row : rows) {
    if (row.state == "failed" || row.state == "killed" || row.state == "silent") return 1;
    if (row.state != "finished") code = exit_code::to_be_continued;
  }
  return code;
}

std::vector<Row> look(const std::vector<std::string>& asked) {
  std::vector<Row> rows;
  const double now = seconds_since_1970();
  for (const std::string& path : asked) {
    for (const auto& run : runs_of(path)) {
      const bool there = std::any_of(rows.begin(), rows.end(), [&](const Row& row) { return row.run == run.string(); });
      if (!there) rows.push_back(row_of(run, now));
    }
  }
  return rows;
}

}  // namespace

int status_command(const std::vector<std::string>& args) {
  std::vector<std::string> asked;
  double watch = 0;
  KeyTable table;
  table.add(
      {{"run", &asked, "runs' directories, or directories with runs below; may stand first without its key"},
       Key{"watch", &watch, "look again so often, until no run is training; 0: look once", "seconds"}.at_least(0)});
  if (asks_help(args)) {
    print_result("{}{}", usage, table.help());
    return 0;
  }
  std::vector<std::string> keyed = args;
  if (!keyed.empty() && !keyed[0].starts_with("--")) keyed.insert(keyed.begin(), "--run");
  table.parse_arguments(keyed);
  require_usage(!asked.empty(), "run is missing: lexring status RUN... [--watch SECONDS]");
  for (;;) {
    const std::vector<Row> rows = look(asked);
    const bool screen = watch > 0 && ::isatty(STDOUT_FILENO) == 1;
    print_result("{}{}", screen ? "\033[H\033[2J" : "", table_of(rows));
    const bool lives = std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.state == "training"; });
    if (watch == 0 || !lives) return code_of(rows);
    std::this_thread::sleep_for(std::chrono::duration<double>(watch));
  }
}

}  // namespace lexring
