/// What a run tells whoever looks at its directory from outside, on any node: how it stands (status.json, replaced now
/// and then) and what has happened to it (history.jsonl, a line each). Times are seconds since 1970, of the node that
/// rank 0 is on. Neither is needed to go on, and where one cannot be written or read, nothing ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace lexring {

double seconds_since_1970();

/// Where rank 0 runs.
struct RunPlace {
  std::string node = "";
  std::string job = "";        ///< Slurm's number; empty: not a job
  std::int64_t pid = 0;        ///< on that node
  std::string described = "";  ///< "4 ranks, dp 2 x cp 2 x tp 1"
};
/// Of this process.
RunPlace place_of_run(std::string described);

struct RunStatus {
  std::string state;  ///< "training", and at the end "finished", "stopped", "failed"
  RunPlace place = {};
  double started = 0, written = 0;                 ///< this turn; when this was written
  double longest_silence = 0;                      ///< seconds between two of these so far
  std::int64_t step = 0, steps = 0;                ///< done; in all, 0: not chosen yet
  double loss = 0;                                 ///< of the last step; NaN: none
  double tokens_per_second = 0, step_seconds = 0;  ///< of all ranks; both are medians of the last steps
  double useful = 0;  ///< seconds in steps and validations that stand, of all turns: metrics.jsonl's
};

/// Something that happened: "start", "end" (of a turn), "incident".
struct RunEvent {
  double time = 0;
  std::string kind = "";
  std::int64_t step = 0;
  std::string text = "";
};

std::optional<RunStatus> read_status(const std::filesystem::path& run_directory);
/// Replaces the file; false where it could not.
bool write_status(const std::filesystem::path& run_directory, const RunStatus& status);
/// Lines that are whole, in their order.
std::vector<RunEvent> read_history(const std::filesystem::path& run_directory);
bool append_history(const std::filesystem::path& run_directory, const RunEvent& event);

/// "training", "finished", "stopped", "failed" as the run says; where it says nothing any more "killed" (its process is
/// gone from this node) or "silent" (for far longer than it was before: two minutes, ten steps, three times the longest
/// silence).
std::string state_at(double now, const RunStatus& status);
/// Seconds that turns took. One that did not end goes as far as the next thing that is known of it, or `status`.
double seconds_of_turns(const std::vector<RunEvent>& history, const RunStatus& status);

}  // namespace lexring
