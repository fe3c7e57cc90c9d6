/// Series of checkpoints and patterns, scored on the texts of a task: sizes by variants.
#pragma once

#include <string>
#include <vector>

#include "jobs/config/task_keys.h"
#include "jobs/evaluation/measurement.h"
#include "jobs/evaluation/results.h"
#include "jobs/evaluation/subjects.h"
#include "jobs/evaluation/task_scores.h"

namespace lexring {

/// What texts of one size differ in: how deep a passkey lies, how much a flip-flop ignores.
struct TaskVariant {
  std::string name;  ///< "depth 0.25"; empty: the only one
  TaskSettings settings;
};

struct TaskResults {
  TaskKeys keys;
  std::vector<TaskVariant> variants;  ///< at least one
  std::string device, machine, date, version, command;
  std::int64_t ranks = 1;
  std::vector<MeasuredModel> models;
  std::vector<Series> series;                  ///< without cells
  std::vector<std::vector<TaskScore>> scores;  ///< of each series: size by size, within it variant by variant

  const TaskScore& score(std::size_t of_series, std::size_t size, std::size_t variant) const {
    return scores[of_series][size * variants.size() + variant];
  }
};

/// The texts of one size and variant. None is of a dataset that `prepare --task` made with the same seed.
std::vector<ScoredText> texts_of(const TaskResults& results, std::size_t size, std::size_t variant);
/// The name of a cell among the kept parts of its evaluation.
std::string task_part_name(std::size_t series, std::int64_t size, std::size_t variant);
/// Scores the series of model `index`; text i of a size and variant is the same for all. Collective; throws
/// EvaluationStopped.
void score_series(TaskResults& results, std::size_t index, const Subject& subject, const CheckpointReader& reader,
                  const MeasurementKeys& keys, const RunDevice& device, KeptParts& parts, ProgressBar& progress);

/// For people: a line per series and variant, a column per size.
std::string to_table(const TaskResults& results);
std::string to_json(const TaskResults& results);
std::string to_csv(const TaskResults& results);

}  // namespace lexring
