/// The keys of `lexring evaluate`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "datasets/batches.h"
#include "jobs/config/mesh_keys.h"
#include "jobs/config/task_keys.h"
#include "jobs/evaluation/parts_file.h"
#include "jobs/evaluation/series.h"
#include "jobs/evaluation/subjects.h"

namespace lexring {

/// What becomes of an unfinished evaluation of another command.
enum class Unfinished { refuse, replace };
constexpr auto words(Unfinished) {
  return std::to_array<Word<Unfinished>>({{Unfinished::refuse, "refuse"}, {Unfinished::replace, "replace"}});
}

struct EvaluateArguments {
  std::string data, output;
  std::optional<Documents> documents;
  std::optional<EndOfDocument> end_of_document;
  std::optional<PrecisionChoice> precision;
  DeviceKeys device;
  std::vector<std::string> checkpoints;
  std::vector<std::int64_t> lengths, resolution;
  std::int64_t tokens = 0, chunk = 4096, watchdog_seconds = 3600;
  bool overwrite = false;
  Unfinished unfinished = Unfinished::refuse;
  SeriesKeys series;
  MeshKeys mesh;
  SequenceKeys sequence;
  TaskKeys task{.task = "", .sizes = {}, .count = 100, .seed = 0, .settings = {}, .haystack = ""};
  std::int64_t depths = 0;
  std::vector<double> ignore = {TaskSettings().ignore};

  KeyTable keys();
  /// Throws UsageError for what cannot be meant, whatever the checkpoints are.
  void parse(const std::vector<std::string>& words);
  void check() const;
  /// Lengths, and those of attention resolution, where they were not given.
  void fill_defaults(const std::vector<Subject>& subjects);

 private:
  std::vector<Key> keys_of_task();
};

/// What the results of these keys depend on: the keys that were given, but for those that only say how and where it is
/// done; the contents of checkpoints and data; the version of this program.
Asked asked(EvaluateArguments args, const std::vector<CheckpointReader>& readers, const std::string& data_hash);

/// The command as a shell would read it again.
std::string command_line(const std::vector<std::string>& words);

}  // namespace lexring
